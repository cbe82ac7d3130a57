"""Opens sources: checks the path, the grant and the credential, and hands out the store."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from domain.errors import UnsupportedError, ValidationError
from domain.ingestions.entities import Source, SourceType
from domain.ledger.globs import compile_glob
from domain.ports.event_queue import EventQueue
from domain.ports.object_store import ObjectStore
from domain.tenants import Grants
from integrations.object_store.credentials import DEFAULT_CREDENTIAL, S3Credential
from integrations.object_store.local import LocalObjectStore
from integrations.object_store.local_paths import source_folder
from integrations.object_store.s3 import S3ObjectStore
from integrations.object_store.s3_account import S3Account
from integrations.object_store.s3_location import s3_location
from integrations.object_store.s3_staging import STAGING_THREADS
from integrations.object_store.sqs import SqsQueue
from integrations.object_store.sqs_clients import SqsClients

_LOOKUP_THREADS = 8


class ConfiguredObjectStores:
    """The object stores of one process, over its configured credentials.

    Clients and threads are shared by all stores and queues that it opens. When the process ends: `close`, or `aclose` where queues were
    opened, in the same event loop as they.
    """

    def __init__(self, credentials: Mapping[str, S3Credential]) -> None:
        self._credentials = dict(credentials)
        self._accounts: dict[str | None, S3Account] = {}
        self._queues: dict[S3Account, SqsClients] = {}
        self._lock = threading.Lock()
        self._lookups = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="object-store-lookup")
        # Of their own: a mount that does not answer keeps those busy that look at it, and no other.
        self._folders = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="local-folder")
        self._downloads = ThreadPoolExecutor(STAGING_THREADS, thread_name_prefix="object-store-download")

    def open(self, source: Source, grants: Grants) -> ObjectStore:
        if source.glob is not None:
            try:
                compile_glob(source.glob)
            except ValueError as error:
                raise ValidationError.of("source", "glob", message=str(error)) from error
        match source.type:
            case SourceType.LOCAL:
                return self._local(source, grants)
            case SourceType.S3:
                location = s3_location(source)
                account = self._account(source.credential, grants)
                return S3ObjectStore(location, account, lookups=self._lookups, downloads=self._downloads)
        raise UnsupportedError(f"sources of type {source.type} do not work yet; S3 and LOCAL do")

    def open_queue(self, source: Source, grants: Grants) -> EventQueue:
        if source.type is not SourceType.S3 or source.queue is None:
            raise ValidationError.of("source", "queue", message="the source names no queue")
        account = self._account(source.credential, grants)
        with self._lock:
            if account not in self._queues:
                self._queues[account] = SqsClients(account, self._lookups)
            return SqsQueue(source.queue, self._queues[account])

    def s3_credential(self, source: Source, grants: Grants) -> S3Credential:
        """The credential of an S3 source, for a reader elsewhere: short-lived keys where it names a role or a profile.

        Empty where the reader's own are to serve. Blocks. Raises `ValidationError` as `open` does.
        """
        return self._account(source.credential, grants).keys()

    def close(self) -> None:
        """Take no more work, and do not wait for what is under way."""
        for threads in (self._lookups, self._folders, self._downloads):
            threads.shutdown(wait=False, cancel_futures=True)

    async def aclose(self) -> None:
        for clients in self._queues.values():
            await clients.close()
        self.close()

    def _local(self, source: Source, grants: Grants) -> ObjectStore:
        if source.credential is not None:
            raise ValidationError.of("source", "credential", message="a local folder takes no credential")
        return LocalObjectStore(source_folder(source, grants), grants.local_roots, self._folders)

    def _account(self, name: str | None, grants: Grants) -> S3Account:
        """The account behind a credential's name. An unknown name and one not granted get the same answer.

        No name is the default's, and where no default is configured the machine's own credentials, which the same grant covers.
        """
        wanted = name or DEFAULT_CREDENTIAL
        granted = "*" in grants.credentials or wanted in grants.credentials
        if not granted or (name is not None and name not in self._credentials):
            raise ValidationError.of("source", "credential", message=f"there is no credential {wanted!r} for this tenant")
        if name is None and DEFAULT_CREDENTIAL in self._credentials:
            name = DEFAULT_CREDENTIAL
        with self._lock:
            if name not in self._accounts:
                label = "the ambient AWS credentials" if name is None else f"the credential {name!r}"
                self._accounts[name] = S3Account(label, self._credentials[name] if name is not None else S3Credential())
            return self._accounts[name]
