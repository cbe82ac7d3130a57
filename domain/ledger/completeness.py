"""Is everything that landed in the table, once? The source's listing, the ledger and the table's rows, side by side."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from uuid import UUID

from domain.errors import NotFoundError
from domain.ingestions.entities import EngineType, Ingestion
from domain.ledger.discovery import FileDiscoveryService
from domain.ledger.entities import FileStatus, ProcessedFile
from domain.ports.engine import Engine
from domain.ports.object_store import StoredObject
from domain.ports.unit_of_work import UnitOfWorkFactory
from domain.tenants import Principal

NAMED_OF_A_KIND = 100
"""So many differences of each kind are named; all are counted."""
_PAGE = 5_000


class DifferenceKind(StrEnum):
    """What two of the three say differently of a path. Those from ROWS_MISSING on should never be."""

    NOT_IN_LEDGER = "NOT_IN_LEDGER"
    NOT_LOADED = "NOT_LOADED"
    WAITING_FOR_APPROVAL = "WAITING_FOR_APPROVAL"
    CHANGED_AT_SOURCE = "CHANGED_AT_SOURCE"
    GONE_FROM_SOURCE = "GONE_FROM_SOURCE"
    ABSENT_BY_REFRESH = "ABSENT_BY_REFRESH"
    ROWS_MISSING = "ROWS_MISSING"
    ROWS_TOO_MANY = "ROWS_TOO_MANY"
    ROWS_OF_UNLOADED_FILE = "ROWS_OF_UNLOADED_FILE"
    ROWS_OF_UNKNOWN_FILE = "ROWS_OF_UNKNOWN_FILE"


WRONG = frozenset(kind for kind in DifferenceKind if kind.startswith("ROWS_"))
"""Kinds that mean a row lost, doubled or of nobody's; the others have their reasons in the ledger or at the source."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`status` (of the current version) and `ledger_rows` (of all versions in the table) are the ledger's word, None where it knows no
    such file; `table_rows` are counted.
    """

    kind: DifferenceKind
    path: str
    status: FileStatus | None = None
    ledger_rows: int | None = None
    table_rows: int | None = None


@dataclass(slots=True)
class Completeness:
    """`counts` has every kind that was found; `differences` names the first ones of each.

    With `run_active` things were moving while they were compared, and a difference may be one of moments.
    """

    run_active: bool
    listed_files: int = 0
    ledger_files: int = 0
    ledger_rows: int = 0
    table_files: int = 0
    table_rows: int = 0
    counts: Counter[DifferenceKind] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    @property
    def consistent(self) -> bool:
        """Whether the table holds exactly the rows that the ledger says it holds."""
        return not WRONG & self.counts.keys()

    def add(self, difference: Difference) -> None:
        self.counts[difference.kind] += 1
        if self.counts[difference.kind] <= NAMED_OF_A_KIND:
            self.differences.append(difference)


class CompletenessService:
    """Memory grows by 16 bytes for a listed file, and by no more."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, discovery: FileDiscoveryService, engines: Mapping[EngineType, Engine]) -> None:
        self._unit_of_work = unit_of_work
        self._discovery = discovery
        self._engines = engines

    async def audit(self, principal: Principal, ingestion_id: UUID) -> Completeness:
        """Compare all three. Raises `NotFoundError`, `SourceUnavailableError`, `TableUnavailableError`."""
        async with self._unit_of_work(principal.tenant.id) as tx:
            ingestion = await tx.ingestions.get_by_id(ingestion_id)
            if ingestion is None:
                raise NotFoundError("ingestion")
            table_uuid = await tx.ingestions.get_table(ingestion_id)
            found = Completeness(run_active=await tx.runs.get_active(ingestion_id) is not None)
        listed = _Listed()
        async for files in self._discovery.list_files(ingestion.source, principal.tenant.grants):
            await self._look_up(ingestion, files, found)
            listed.add(files)
        counted = self._engines[ingestion.execution.engine].rows_by_file(ingestion.destination, table_uuid=table_uuid)
        async with aclosing(counted):
            await self._compare(ingestion, listed, _Peeking(counted), found)
        return found

    async def _look_up(self, ingestion: Ingestion, files: Sequence[StoredObject], found: Completeness) -> None:
        found.listed_files += len(files)
        async with self._unit_of_work(ingestion.tenant_id) as tx:
            known = await tx.files.get_known_paths(ingestion.id, [file.path for file in files])
        for file in files:
            if file.path not in known:
                found.add(Difference(DifferenceKind.NOT_IN_LEDGER, file.path))

    async def _compare(self, ingestion: Ingestion, listed: _Listed, counted: _Peeking, found: Completeness) -> None:
        """Both come in the order of their paths."""
        async for file, expected in self._ledger(ingestion):
            async for path, rows in counted.before(file.path):
                _unknown(path, rows, found)
            rows = await counted.of(file.path)
            found.ledger_files += 1
            found.table_files += rows > 0
            found.table_rows += rows
            found.ledger_rows += expected or 0
            for kind in _differences(ingestion, file, expected, rows, listed):
                found.add(Difference(kind, file.path, file.status, expected, rows))
        async for path, rows in counted.rest():
            _unknown(path, rows, found)

    async def _ledger(self, ingestion: Ingestion) -> AsyncIterator[tuple[ProcessedFile, int | None]]:
        """Each path's current version, and how many rows of all its versions are to be in the table; None when none has been loaded."""
        after: str | None = None
        while True:
            async with self._unit_of_work(ingestion.tenant_id) as tx:
                files = await tx.files.get_by_path_order(ingestion.id, after=after, limit=_PAGE)
                earlier = await tx.files.rows_of_earlier_versions(ingestion.id, [file.path for file in files])
            for file in files:
                current = (file.rows or 0) if _is_in_table(ingestion, file) else None
                versions = [rows for rows in (current, earlier.get(file.path)) if rows is not None]
                yield file, sum(versions) if versions else None
            if len(files) < _PAGE:
                return
            after = files[-1].path


def _unknown(path: str, rows: int, found: Completeness) -> None:
    found.table_files += 1
    found.table_rows += rows
    found.add(Difference(DifferenceKind.ROWS_OF_UNKNOWN_FILE, path, table_rows=rows))


def _is_in_table(ingestion: Ingestion, file: ProcessedFile) -> bool:
    return file.status is FileStatus.SUCCESS and file.generation == ingestion.generation


def _differences(ingestion: Ingestion, file: ProcessedFile, expected: int | None, rows: int, listed: _Listed) -> Iterable[DifferenceKind]:
    if file.status is FileStatus.SUCCESS and file.generation != ingestion.generation:
        yield DifferenceKind.ABSENT_BY_REFRESH
    if expected is None:
        if rows:
            yield DifferenceKind.ROWS_OF_UNLOADED_FILE
    elif rows != expected:
        yield DifferenceKind.ROWS_MISSING if rows < expected else DifferenceKind.ROWS_TOO_MANY
    if _is_in_table(ingestion, file) and listed.has_path(file.path) and not listed.has_content(file.path, file.etag):
        yield DifferenceKind.CHANGED_AT_SOURCE
    if file.status is FileStatus.HELD:
        yield DifferenceKind.WAITING_FOR_APPROVAL
    elif file.status not in (FileStatus.SUCCESS, FileStatus.SKIPPED):
        yield DifferenceKind.NOT_LOADED
    if not listed.has_path(file.path):
        yield DifferenceKind.GONE_FROM_SOURCE


class _Listed:
    """Which paths were listed, and with which content: 64 bits of a digest each."""

    def __init__(self) -> None:
        self._paths, self._contents = _Digests(), _Digests()

    def add(self, files: Sequence[StoredObject]) -> None:
        for file in files:
            self._paths.add(_digest(file.path))
            self._contents.add(_digest(file.path, file.etag))

    def has_path(self, path: str) -> bool:
        return _digest(path) in self._paths

    def has_content(self, path: str, etag: str) -> bool:
        return _digest(path, etag) in self._contents


class _Digests:
    """Numbers of 64 bits in parts by their first byte, each of which is sorted when it is first looked into: no step takes long."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(256)]
        self._sorted: set[int] = set()

    def add(self, digest: int) -> None:
        """Not after the first look."""
        self._parts[digest >> 56].append(digest)

    def __contains__(self, digest: int) -> bool:
        first = digest >> 56
        if first not in self._sorted:
            self._parts[first] = array("Q", sorted(self._parts[first]))
            self._sorted.add(first)
        part = self._parts[first]
        place = bisect_left(part, digest)
        return place < len(part) and part[place] == digest


def _digest(*texts: str) -> int:
    return int.from_bytes(blake2b("\0".join(texts).encode(), digest_size=8).digest())


class _Peeking:
    """Rows by file, in the order of the files, taken as far as a path."""

    def __init__(self, chunks: AsyncIterator[Sequence[tuple[str, int]]]) -> None:
        self._pairs = _flat(chunks)
        self._next: tuple[str, int] | None = None

    async def before(self, path: str) -> AsyncIterator[tuple[str, int]]:
        while (pair := await self._peek()) is not None and pair[0] < path:
            self._next = None
            yield pair

    async def of(self, path: str) -> int:
        """Rows of exactly this file, once those before it are taken."""
        pair = await self._peek()
        if pair is None or pair[0] != path:
            return 0
        self._next = None
        return pair[1]

    async def rest(self) -> AsyncIterator[tuple[str, int]]:
        while (pair := await self._peek()) is not None:
            self._next = None
            yield pair

    async def _peek(self) -> tuple[str, int] | None:
        if self._next is None:
            self._next = await anext(self._pairs, None)
        return self._next


async def _flat(chunks: AsyncIterator[Sequence[tuple[str, int]]]) -> AsyncIterator[tuple[str, int]]:
    async for chunk in chunks:
        for pair in chunk:
            yield pair
