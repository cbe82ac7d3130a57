"""S3 and S3-compatible stores as an object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import aclosing
from datetime import UTC
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from domain.ports.object_store import SourceUnavailableError, StagedObject, StoredObject
from integrations.object_store.s3_account import RAW_LISTING, S3Account
from integrations.object_store.s3_errors import S3Names, source_unavailable
from integrations.object_store.s3_listing import MalformedPageError, bare_etag, next_token, parse_page
from integrations.object_store.s3_location import S3Location
from integrations.object_store.s3_staging import Staging
from integrations.object_store.threads import run_in_threads

CHECK_SECONDS = 8.0
_MISSING_STATUS = 404
_FAILURES = (BotoCoreError, ClientError, MalformedPageError)


class S3ObjectStore:
    """The objects of a bucket below a prefix.

    Listing and looking go through botocore with a parser of ours, staging through obstore with `If-Match`: each is the
    faster or the only exact way there. `lookups` and `downloads` are separate, so that a long download delays no answer.
    """

    def __init__(self, location: S3Location, account: S3Account, *, lookups: Executor, downloads: Executor) -> None:
        self._location = location
        self._account = account
        self._lookups = lookups
        self._downloads = downloads
        self._names = S3Names(location.bucket, account.name, account.endpoint)

    async def check_access(self) -> None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await run_in_threads(self._lookups, self._check)
        except TimeoutError as error:
            raise source_unavailable(error, self._names) from None

    async def list(self, *, chunk_size: int = 5_000) -> AsyncIterator[Sequence[StoredObject]]:
        waiting: list[StoredObject] = []
        async with aclosing(self._pages()) as pages:
            async for objects in pages:
                waiting += objects
                while len(waiting) >= chunk_size:
                    yield waiting[:chunk_size]
                    del waiting[:chunk_size]
        if waiting:
            yield waiting

    async def stat(self, path: str) -> StoredObject | None:
        key = self._location.key_of(path)
        return None if key is None else await run_in_threads(self._lookups, self._head, path, key)

    async def stage(self, objects: Sequence[StoredObject], into: Path) -> Sequence[StagedObject]:
        try:
            store, client = await run_in_threads(self._lookups, self._readers)
        except SourceUnavailableError as error:
            transient = error.reason == SourceUnavailableError.UNREACHABLE
            return [StagedObject(stored, None, error.message, transient) for stored in objects]
        return await Staging(self._location, store, client, objects, into).run(self._downloads)

    async def changed_since_staged(self, objects: Sequence[StoredObject]) -> frozenset[str]:
        return frozenset()

    def _check(self) -> None:
        try:
            answer = self._account.client(quick=True).list_objects_v2(Bucket=self._location.bucket, Prefix=self._location.prefix, MaxKeys=1)
            parse_page(answer[RAW_LISTING], self._location.base)
        except _FAILURES as error:
            raise source_unavailable(error, self._names) from error

    def _readers(self) -> tuple[Any, Any]:
        try:
            return self._account.bucket_store(self._location.bucket), self._account.client()
        except _FAILURES as error:
            raise source_unavailable(error, self._names) from error

    async def _pages(self) -> AsyncGenerator[Sequence[StoredObject], None]:
        """The listing page by page. The next page is on its way while one is parsed and worked on; never more than that."""
        base = self._location.base
        token: str | None = None
        fetch: Future[bytes] | None = self._lookups.submit(self._fetch, None)
        try:
            while fetch is not None:
                body = await asyncio.wrap_future(fetch)
                token, previous = next_token(body), token
                if token == previous is not None:
                    raise MalformedPageError("the listing does not advance")
                fetch = self._lookups.submit(self._fetch, token) if token is not None else None
                page = await run_in_threads(self._lookups, parse_page, body, base)
                if page.next_token != token:
                    raise MalformedPageError("the listing contradicts itself about its next page")
                yield page.objects
        except _FAILURES as error:
            raise source_unavailable(error, self._names) from error
        finally:
            if fetch is not None:
                fetch.cancel()

    def _fetch(self, token: str | None) -> bytes:
        position = {} if token is None else {"ContinuationToken": token}
        answer = self._account.client().list_objects_v2(Bucket=self._location.bucket, Prefix=self._location.prefix, **position)
        body: bytes = answer[RAW_LISTING]
        return body

    def _head(self, path: str, key: str) -> StoredObject | None:
        try:
            answer = self._account.client().head_object(Bucket=self._location.bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == _MISSING_STATUS:
                return None
            raise source_unavailable(error, self._names) from error
        except BotoCoreError as error:
            raise source_unavailable(error, self._names) from error
        return StoredObject(path, answer["ContentLength"], bare_etag(answer["ETag"]), answer["LastModified"].astimezone(UTC))
