"""Object stores in memory, which pass the same contract as the real ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from domain.errors import UnsupportedError, ValidationError
from domain.ingestions.entities import Source, SourceType
from domain.ports.event_queue import EventQueue
from domain.ports.object_store import SourceUnavailableError, StagedObject, StoredObject
from domain.tenants import Grants
from tests.fakes.event_queue import FakeEventQueue

_SCHEMES = {SourceType.S3: "s3://", SourceType.LOCAL: "/"}


@dataclass
class FakeObjectStores:
    """Everything that all fake stores hold, by path, and what is to go wrong.

    `credentials` are the configured names. A location exists once it holds an object or `add_location` made it. Each put is
    one second later than the one before, unless it says when.
    """

    credentials: Iterable[str] = ()
    contents: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, StoredObject] = field(default_factory=dict)
    locations: set[str] = field(default_factory=set)
    chunk_sizes: list[int] = field(default_factory=list)
    """How many objects each chunk had that a listing has handed out, of all listings so far."""
    check_failure: SourceUnavailableError | None = None
    listing_failure: tuple[int, SourceUnavailableError] | None = None
    """A listing hands out that many chunks, and then raises."""
    staging_failures: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """The error and whether it is transient, by path."""
    queues: dict[str, FakeEventQueue] = field(default_factory=dict)
    """By name; one that is not here does not exist."""
    looking_failures: dict[str, SourceUnavailableError] = field(default_factory=dict)
    """What `stat` raises, by path."""
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def open(self, source: Source, grants: Grants) -> FakeObjectStore:
        if source.type not in _SCHEMES:
            raise UnsupportedError(f"sources of type {source.type} do not work yet; S3 and LOCAL do")
        if not source.path.startswith(_SCHEMES[source.type]):
            raise ValidationError.of("source", "path", message=f"is not a path of type {source.type}")
        if source.type is SourceType.LOCAL and not grants.local_roots:
            raise ValidationError.of("source", "path", message="no local folder has been granted to this tenant")
        if source.type is SourceType.S3:
            self._check_grant(source, grants)
        granted = source.type is SourceType.S3 or any(_is_within(source.path, root) for root in grants.local_roots)
        return FakeObjectStore(self, source.path if source.path.endswith("/") else source.path + "/", granted)

    def open_queue(self, source: Source, grants: Grants) -> EventQueue:
        if source.type is not SourceType.S3 or source.queue is None:
            raise ValidationError.of("source", "queue", message="the source names no queue")
        self._check_grant(source, grants)
        return self.queues.get(source.queue) or FakeEventQueue(source.queue, exists=False)

    def _check_grant(self, source: Source, grants: Grants) -> None:
        name = source.credential or "default"
        granted = name in grants.credentials or "*" in grants.credentials
        if not granted or (source.credential is not None and name not in self.credentials):
            raise ValidationError.of("source", "credential", message=f"there is no credential {name!r} for this tenant")

    def add_location(self, path: str) -> None:
        """Make a bucket (`s3://bucket/...`) or a folder that holds nothing yet."""
        self.locations.add(_location_of(path))

    def put(self, path: str, content: bytes, *, modified_at: datetime | None = None) -> StoredObject:
        """Write or overwrite an object; for S3 a path that ends in `/` is a folder's marker."""
        self.now += timedelta(seconds=1)
        stored = StoredObject(path, len(content), hashlib.sha256(content).hexdigest()[:32], modified_at or self.now)
        self.contents[path] = content
        self.objects[path] = stored
        self.add_location(path)
        return stored

    def delete(self, path: str) -> None:
        del self.contents[path]
        del self.objects[path]


class FakeObjectStore:
    """The objects below one path."""

    def __init__(self, stores: FakeObjectStores, base: str, granted: bool) -> None:
        self._stores = stores
        self._base = base
        self._granted = granted

    async def check_access(self) -> None:
        await self._look()
        if self._stores.check_failure is not None:
            raise self._stores.check_failure
        self._check_location()

    async def list(self, *, chunk_size: int = 5_000) -> AsyncIterator[Sequence[StoredObject]]:
        await self._look()
        self._check_location()
        paths = sorted(path for path in self._stores.objects if self._holds(path))
        failure = self._stores.listing_failure
        for number, start in enumerate(range(0, len(paths), chunk_size)):
            if failure is not None and number == failure[0]:
                raise failure[1]
            chunk = [self._stores.objects[path] for path in paths[start : start + chunk_size] if path in self._stores.objects]
            self._stores.chunk_sizes.append(len(chunk))
            yield chunk
            await asyncio.sleep(0)
        if failure is not None and len(paths) <= failure[0] * chunk_size:
            raise failure[1]

    async def stat(self, path: str) -> StoredObject | None:
        await self._look()
        if path in self._stores.looking_failures:
            raise self._stores.looking_failures[path]
        return self._stores.objects.get(path) if self._holds(path) else None

    async def stage(self, objects: Sequence[StoredObject], into: Path) -> Sequence[StagedObject]:
        await self._look()
        return [self._stage(stored, into) for stored in objects]

    async def changed_since_staged(self, objects: Sequence[StoredObject]) -> frozenset[str]:
        await self._look()
        return frozenset()

    def _stage(self, stored: StoredObject, into: Path) -> StagedObject:
        failure = self._stores.staging_failures.get(stored.path)
        if failure is not None:
            message, transient = failure
            return StagedObject(stored, None, message, transient)
        present = self._stores.objects.get(stored.path) if self._holds(stored.path) else None
        if present is None:
            return StagedObject(stored, None, "the object has gone since it was listed")
        if present.etag != stored.etag:
            return StagedObject(stored, None, "the object has changed since it was listed")
        name = Path(stored.path).name
        local_path = into / f"{len(list(into.iterdir())):06d}{''.join(Path(name).suffixes[-2:])}"
        local_path.write_bytes(self._stores.contents[stored.path])
        return StagedObject(stored, local_path)

    async def _look(self) -> None:
        await asyncio.sleep(0)
        if not self._granted:
            raise ValidationError.of("source", "path", message="is outside the local folders granted to this tenant")

    def _holds(self, path: str) -> bool:
        return path.startswith(self._base) and not path.endswith("/")

    def _check_location(self) -> None:
        wanted = _location_of(self._base)
        if not any(_is_within(location, wanted) for location in self._stores.locations):
            raise SourceUnavailableError(SourceUnavailableError.NOT_FOUND, f"there is no {wanted}")


def _location_of(path: str) -> str:
    """What must exist for a source to be there: the bucket, or the folder."""
    if path.startswith("s3://"):
        return "s3://" + path.removeprefix("s3://").partition("/")[0]
    return path.rpartition("/")[0]


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
