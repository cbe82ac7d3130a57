"""Local folders as an object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

from domain.ports.object_store import SourceUnavailableError, StagedObject, StoredObject
from integrations.object_store.local_listing import LocalListing, unavailable
from integrations.object_store.local_paths import AllowedRoots
from integrations.object_store.local_staging import LocalFiles
from integrations.object_store.threads import iterate_in_threads, run_in_threads

CHECK_SECONDS = 5.0


class LocalObjectStore:
    """The regular files below one folder, which lies inside the allowed roots.

    A symlink to a file is a file, under the link's path. A symlink to a folder is followed when its target lies neither
    inside nor above the source's folder (whose files are listed anyway) and no other link has led there: so a loop lists
    nothing twice, and every walk ends. What a link shows outside the roots is not there, as far as this store goes.

    A file is staged by a symlink to it or to its folder, after its inode, size and modification time were found as listed;
    whether they still are just before the commit, `changed_since_staged` says.
    """

    def __init__(self, folder: str, roots: AllowedRoots, executor: Executor) -> None:
        self._folder = folder
        self._roots = roots
        self._executor = executor

    async def check_access(self) -> None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await run_in_threads(self._executor, self._listing().look_inside)
        except TimeoutError:
            message = f"{self._folder} did not answer within {CHECK_SECONDS:.0f} seconds"
            raise SourceUnavailableError(SourceUnavailableError.UNREACHABLE, message) from None

    def list(self, *, chunk_size: int = 5_000) -> AsyncIterator[Sequence[StoredObject]]:
        return iterate_in_threads(self._executor, self._listing().chunks(chunk_size))

    async def stat(self, path: str) -> StoredObject | None:
        try:
            return await run_in_threads(self._executor, self._files().stat, path)
        except OSError as error:
            raise unavailable(path, error) from error

    async def stage(self, objects: Sequence[StoredObject], into: Path) -> Sequence[StagedObject]:
        return await run_in_threads(self._executor, self._files().stage, objects, into)

    async def changed_since_staged(self, objects: Sequence[StoredObject]) -> frozenset[str]:
        return await run_in_threads(self._executor, self._files().changed, objects)

    def _listing(self) -> LocalListing:
        return LocalListing(self._folder, self._roots)

    def _files(self) -> LocalFiles:
        return LocalFiles(self._folder, self._roots)
