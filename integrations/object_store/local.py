"""Local folders as an object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
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
    whether they still are just before the commit, and nothing was done to the file meanwhile, `changed_since_staged` says.

    The disk is asked in the executor's threads alone, also for where the folder and the roots really are: so each method
    raises `ValidationError` when the folder leads out of them.
    """

    def __init__(self, folder: str, granted: Sequence[str], executor: Executor) -> None:
        self._folder = folder
        self._granted = granted
        self._executor = executor
        self._resolved: AllowedRoots | None = None
        self._staged: dict[str, int] = {}

    async def check_access(self) -> None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await run_in_threads(self._executor, self._look_inside)
        except TimeoutError:
            message = f"{self._folder} did not answer within {CHECK_SECONDS:.0f} seconds"
            raise SourceUnavailableError(SourceUnavailableError.UNREACHABLE, message) from None

    def list(self, *, chunk_size: int = 5_000) -> AsyncIterator[Sequence[StoredObject]]:
        return iterate_in_threads(self._executor, self._chunks(chunk_size))

    async def stat(self, path: str) -> StoredObject | None:
        try:
            return await run_in_threads(self._executor, lambda: self._files().stat(path))
        except OSError as error:
            raise unavailable(path, error) from error

    async def stage(self, objects: Sequence[StoredObject], into: Path) -> Sequence[StagedObject]:
        return await run_in_threads(self._executor, lambda: self._files().stage(objects, into))

    async def changed_since_staged(self, objects: Sequence[StoredObject]) -> frozenset[str]:
        return await run_in_threads(self._executor, lambda: self._files().changed(objects))

    def _look_inside(self) -> None:
        LocalListing(self._folder, self._roots()).look_inside()

    def _chunks(self, chunk_size: int) -> Generator[Sequence[StoredObject], None, None]:
        yield from LocalListing(self._folder, self._roots()).chunks(chunk_size)

    def _files(self) -> LocalFiles:
        return LocalFiles(self._folder, self._roots(), self._staged)

    def _roots(self) -> AllowedRoots:
        if self._resolved is None:
            roots = AllowedRoots(self._granted)
            roots.admit(self._folder)
            self._resolved = roots
        return self._resolved
