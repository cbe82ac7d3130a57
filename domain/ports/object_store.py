"""Where files land: the port to object stores and local folders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from domain.errors import UnavailableError
from domain.ingestions.entities import Source
from domain.ports.event_queue import EventQueue
from domain.tenants import Grants


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as the listing shows it.

    `path` is absolute and valid Unicode: `s3://bucket/key` (the key as it is, not URL-encoded) or an absolute POSIX path.
    `etag` is opaque; it differs when the content differs. `modified_at` is in UTC.
    """

    path: str
    size_bytes: int
    etag: str
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An object's bytes as a local file, or why they could not be had.

    `local_path` is safe for any reader (no glob characters), or is None when `error` says, for a
    person, what is wrong: the object has gone, has changed since it was listed, may not be read, or the store failed.
    `transient` is true when reading it again later may succeed with nobody changing anything.
    """

    object: StoredObject
    local_path: Path | None
    error: str | None = None
    transient: bool = False


class SourceUnavailableError(UnavailableError):
    """The store cannot be listed or read now. `reason` is one of the fixed words below."""

    NOT_FOUND = "not found"
    ACCESS_DENIED = "access denied"
    NO_CREDENTIALS = "no credentials"
    UNREACHABLE = "unreachable"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class ObjectStore(Protocol):
    """One source location, opened with its credential. Safe to share between tasks."""

    async def check_access(self) -> None:
        """Return when the location can be listed, else raise `SourceUnavailableError`. Bounded to a few seconds."""
        ...

    def list(self, *, chunk_size: int = 5_000) -> AsyncIterator[Sequence[StoredObject]]:
        """Stream every object below the source's path, at most `chunk_size` at a time, unfiltered, in memory that does not grow.

        Raises `SourceUnavailableError`, also between chunks. Folders' own markers (keys ending in `/`) are left out.
        """
        ...

    async def stat(self, path: str) -> StoredObject | None:
        """The object at an absolute `path` inside the source, or None when it is not there (or outside the source)."""
        ...

    async def stage(self, objects: Sequence[StoredObject], into: Path) -> Sequence[StagedObject]:
        """Make the objects' bytes, exactly as listed (same etag), readable as local files under `into`; results in the order asked.

        Never raises for a single object: its `StagedObject` says what is wrong. `into` exists and belongs to the caller.
        A file's extension (`.json.gz`) is kept, its name need not be.
        """
        ...

    async def changed_since_staged(self, objects: Sequence[StoredObject]) -> frozenset[str]:
        """Paths whose staged bytes may no longer be the listed ones; asked just before the commit.

        Empty by nature where staging copied the bytes under a precondition; local files are looked at again.
        """
        ...


class ObjectStores(Protocol):
    """Opens sources, and the queues that tell of them, with the same credentials."""

    def open(self, source: Source, grants: Grants) -> ObjectStore:
        """The store behind a source. Asks nothing of it, and does not block.

        Raises `ValidationError` naming the field when the path is malformed, or nothing of its kind was granted to the tenant, or
        the credential is unknown or not granted; `UnsupportedError` for a source type that does not work yet. Where a local
        path really leads takes a look: each of the store's methods raises `ValidationError` when that is outside what was granted.
        """
        ...

    def open_queue(self, source: Source, grants: Grants) -> EventQueue:
        """The queue that `source.queue` names, which it must, at the service that the credential leads to, and nowhere else.

        Raises as `open`.
        """
        ...
