"""Objects of a bucket as local files, each exactly the version that was listed."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from domain.ports.object_store import StagedObject, StoredObject
from integrations.object_store.s3_errors import CHANGED, GONE, ReadFailure, read_failure
from integrations.object_store.s3_listing import bare_etag
from integrations.object_store.s3_location import S3Location
from integrations.object_store.staged_names import staged_paths

STAGING_THREADS = 16
_CHUNK_BYTES = 1 << 20
_UNFIT_FOR_OBSTORE = re.compile(r"[\x00-\x1f\x7f]|(?:^|/)\.{0,2}(?:/|$)")


class Staging:
    """One call's work: each thread takes the next object until none is left or the caller has gone."""

    def __init__(self, location: S3Location, store: S3Store, client: Any, objects: Sequence[StoredObject], into: Path) -> None:
        self._location = location
        self._store = store
        self._client = client
        self._work = enumerate(zip(objects, staged_paths(objects, into), strict=True))
        self._results: dict[int, StagedObject] = {}
        self._threads = min(STAGING_THREADS, len(objects))
        self._lock = threading.Lock()
        self._abandoned = threading.Event()

    async def run(self, executor: Executor) -> list[StagedObject]:
        """One result per object, in order. When cancelled, the threads stop at the next mebibyte."""
        try:
            await asyncio.gather(*(asyncio.wrap_future(executor.submit(self._take_turns)) for _ in range(self._threads)))
        finally:
            self._abandoned.set()
        return [self._results[number] for number in range(len(self._results))]

    def _take_turns(self) -> None:
        while not self._abandoned.is_set():
            with self._lock:
                turn = next(self._work, None)
            if turn is None:
                return
            number, (stored, staged_path) = turn
            self._results[number] = self._stage(stored, staged_path)

    def _stage(self, stored: StoredObject, staged_path: str) -> StagedObject:
        """The object's bytes in a new file; a partial one does not stay behind."""
        try:
            failure = self._copy(stored, staged_path)
        except Exception as error:
            failure = read_failure(error)
        if failure is None:
            return StagedObject(stored, Path(staged_path))
        Path(staged_path).unlink(missing_ok=True)
        return StagedObject(stored, None, failure.message, failure.transient)

    def _copy(self, stored: StoredObject, staged_path: str) -> ReadFailure | None:
        key = self._location.key_of(stored.path)
        if key is None:
            return GONE
        copied = 0
        with open(staged_path, "xb", buffering=0) as file:
            for piece in self._pieces(key, stored):
                if self._abandoned.is_set():
                    break
                copied += len(piece)
                file.write(piece)
        return None if copied == stored.size_bytes else CHANGED

    def _pieces(self, key: str, stored: StoredObject) -> Iterator[bytes]:
        """The object's bytes under the precondition that it is the listed version. A store that ignores the precondition is
        found out by the answer's own etag, and gives nothing."""
        match = f'"{stored.etag}"'
        if _UNFIT_FOR_OBSTORE.search(key):
            answer = self._client.get_object(Bucket=self._location.bucket, Key=key, IfMatch=match)
            with closing(answer["Body"]) as body:
                if bare_etag(answer["ETag"]) == stored.etag:
                    yield from body.iter_chunks(_CHUNK_BYTES)
            return
        result = obstore.get(self._store, key, options={"if_match": match})
        if bare_etag(result.meta["e_tag"] or "") != stored.etag:
            return
        if stored.size_bytes <= _CHUNK_BYTES:
            yield result.bytes().to_bytes()
        else:
            yield from result.stream(_CHUNK_BYTES)
