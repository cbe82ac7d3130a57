"""An engine in memory that does as its script says: for the domain's own tests, which stop it anywhere and ask what remains."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

from domain.errors import ValidationError
from domain.ingestions.entities import Destination, FormatSpec, SchemaEvolution, Source
from domain.ports.engine import (
    NONE_REPLACED,
    BatchEvidence,
    BatchOutcome,
    Column,
    ColumnChange,
    CommitGuard,
    FileOutcome,
    LoadBatch,
    OutcomeStatus,
    Preview,
    Replaced,
    TableMissingError,
    TableReplacedError,
    TableSchema,
    TableState,
    TableUnavailableError,
)
from domain.ports.object_store import StoredObject
from domain.tenants import Grants
from tests.factories import a_schema

ROWS = 10
"""In every file of which nothing else is said."""


@dataclass(frozen=True)
class Snapshot:
    """`batch_id` is None for a fence. Of an `expired` one no more is known than its rows tell."""

    id: int
    batch_id: UUID | None
    rows: dict[str, int]
    expired: bool = False


@dataclass
class Table:
    schema: TableSchema
    uuid: UUID = field(default_factory=uuid4)
    snapshots: list[Snapshot] = field(default_factory=list)

    def rows_of(self, path: str) -> int:
        return sum(snapshot.rows.get(path, 0) for snapshot in self.snapshots)

    def having(self, replaces: Replaced) -> set[str]:
        """The paths of which there are rows to go."""
        return {path for path, batches in replaces.items() for s in self.snapshots if s.batch_id in batches and path in s.rows}

    def take_out(self, replaces: Replaced) -> None:
        self.snapshots = [
            replace(s, rows={path: rows for path, rows in s.rows.items() if s.batch_id not in replaces.get(path, frozenset())})
            for s in self.snapshots
        ]

    def expire(self) -> None:
        """All snapshots but the newest."""
        self.snapshots = [replace(snapshot, expired=True) for snapshot in self.snapshots[:-1]] + self.snapshots[-1:]

    def evidence_of(self, batch_id: UUID, replaces: Replaced) -> BatchEvidence | None:
        found = next((snapshot for snapshot in self.snapshots if snapshot.batch_id == batch_id), None)
        snapshot_id = found.id if found and not found.expired else None
        if snapshot_id is None and not any(snapshot.expired for snapshot in self.snapshots):
            return None
        rows, gone = found.rows if found else {}, frozenset(replaces.keys() - self.having(replaces))
        return BatchEvidence(snapshot_id, rows, gone) if snapshot_id is not None or rows or gone else None

    def loads_of(self, path: str) -> int:
        """How many commits brought rows of the path."""
        return sum(path in snapshot.rows for snapshot in self.snapshots)


async def _go_on(_batch: LoadBatch) -> None:
    return None


async def _nothing() -> None:
    return None


class ScriptedEngine:
    """`bad` and `empty` say by path what is wrong with files; the hooks run at the places that matter, and may raise or wait."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.schema = a_schema()
        self.bad: dict[str, str] = {}
        self.empty: set[str] = set()
        self.needing: dict[str, ColumnChange] = {}
        """A new column, by the path that brings it: the table gets it once it is approved, and is loaded without it once it is rejected."""
        self.unavailable: TableUnavailableError | None = None
        self.loads: list[LoadBatch] = []
        self.fences: list[UUID] = []
        self.optimized: list[Destination] = []
        self.at_start: Callable[[LoadBatch], Awaitable[None]] = _go_on
        self.before_commit: Callable[[LoadBatch], Awaitable[None]] = _go_on
        """Between the guard's answer and the commit."""
        self.after_commit: Callable[[LoadBatch], Awaitable[None]] = _go_on
        self.before_removal: Callable[[], Awaitable[None]] = _nothing
        """Before a table or rows of it go; of rows, between the guard's answer and the commit."""
        self.after_removal: Callable[[], Awaitable[None]] = _nothing
        self._ids = itertools.count(1)

    def table(self, destination: Destination) -> Table:
        return self.tables[destination.key]

    async def infer(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject]) -> TableSchema:
        if not objects:
            raise ValidationError.of("source", message="no file can be read")
        return self.schema

    async def preview(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject], *, limit: int) -> Preview:
        return Preview(await self.infer(source, grants, format, objects), [{"id": n} for n in range(min(limit, ROWS))])

    async def load(self, batch: LoadBatch, guard: CommitGuard) -> BatchOutcome:
        self.loads.append(batch)
        await self.at_start(batch)
        self._check_available()
        before = self.tables.get(batch.destination.key)
        if before is None and batch.table_uuid is not None:
            raise TableMissingError("the table is gone")
        if before is not None:
            _require(before, batch.table_uuid)
        table = self.tables.setdefault(batch.destination.key, Table(self.schema))
        outcomes = [self._outcome(batch, file.file_id, file.object.path) for file in batch.files]
        paths = {file.file_id: file.object.path for file in batch.files}
        rows = {paths[o.file_id]: o.rows for o in outcomes if o.status is OutcomeStatus.LOADED}
        left = {paths[o.file_id] for o in outcomes if o.status in (OutcomeStatus.FAILED, OutcomeStatus.NEEDS_APPROVAL)}
        replaces = {path: batches for path, batches in batch.replaces.items() if path not in left}
        snapshot_id = await self._commit(table, batch, guard, rows, replaces) if rows or table.having(replaces) else None
        if snapshot_id is not None:
            self._add_columns(table, batch)
        await self.after_commit(batch)
        snapshots = len(table.snapshots) if snapshot_id is not None else None
        return BatchOutcome(outcomes, snapshot_id, table.uuid, before.schema if before else None, table.schema, snapshots)

    async def fence(
        self, destination: Destination, *, table_uuid: UUID | None, batch_id: UUID, epoch: int, replaces: Replaced = NONE_REPLACED
    ) -> BatchEvidence | None:
        self.fences.append(batch_id)
        self._check_available()
        table = self.tables.get(destination.key)
        if table is None:
            raise TableMissingError("there is no table")
        _require(table, table_uuid)
        table.snapshots.append(Snapshot(next(self._ids), None, {}))
        return table.evidence_of(batch_id, replaces)

    async def table_state(self, destination: Destination) -> TableState | None:
        self._check_available()
        table = self.tables.get(destination.key)
        if table is None:
            return None
        rows = sum(sum(snapshot.rows.values()) for snapshot in table.snapshots)
        return TableState(table.uuid, table.snapshots[-1].id if table.snapshots else None, table.schema, rows)

    async def rows_by_file(self, destination: Destination, *, table_uuid: UUID | None) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        self._check_available()
        table = self.tables.get(destination.key)
        if table is None:
            return
        _require(table, table_uuid)
        for path in sorted({path for snapshot in table.snapshots for path in snapshot.rows}):
            yield [(path, table.rows_of(path))]

    async def remove_rows(self, destination: Destination, *, table_uuid: UUID | None, path_prefix: str, guard: CommitGuard) -> int:
        while True:
            self._check_available()
            table = self.tables.get(destination.key)
            if table is None:
                return 0
            _require(table, table_uuid)
            seen = len(table.snapshots)
            await guard()
            await self.before_removal()
            if self.tables.get(destination.key) is table and len(table.snapshots) == seen:
                break
        kept = [replace(s, rows={p: n for p, n in s.rows.items() if not p.startswith(path_prefix)}) for s in table.snapshots]
        removed = sum(sum(s.rows.values()) for s in table.snapshots) - sum(sum(s.rows.values()) for s in kept)
        table.snapshots = [*kept, Snapshot(next(self._ids), None, {})] if removed else kept
        await self.after_removal()
        return removed

    async def drop_table(self, destination: Destination, *, table_uuid: UUID | None = None) -> bool:
        self._check_available()
        await self.before_removal()
        table = self.tables.get(destination.key)
        if table is not None:
            _require(table, table_uuid)
        dropped = self.tables.pop(destination.key, None) is not None
        await self.after_removal()
        return dropped

    async def optimize(self, destination: Destination) -> None:
        self._check_available()
        self.optimized.append(destination)

    async def _commit(self, table: Table, batch: LoadBatch, guard: CommitGuard, rows: dict[str, int], replaces: Replaced) -> int:
        while True:
            seen = len(table.snapshots)
            await guard()
            await self.before_commit(batch)
            if len(table.snapshots) == seen:
                table.take_out(replaces)
                table.snapshots.append(Snapshot(next(self._ids), batch.batch_id, rows))
                return table.snapshots[-1].id

    def _add_columns(self, table: Table, batch: LoadBatch) -> None:
        known = {column.name for column in table.schema.columns}
        brought = {change for file in batch.files if (change := self.needing.get(file.object.path)) in batch.decisions.approved}
        new = tuple(Column(change.column, change.after) for change in brought if change and change.column not in known)
        table.schema = TableSchema((*table.schema.columns, *new))

    def _outcome(self, batch: LoadBatch, file_id: int, path: str) -> FileOutcome:
        needed = self.needing.get(path)
        if needed is not None and batch.policies.schema_evolution is SchemaEvolution.REQUIRE_APPROVAL:
            columns = {column.name for column in self.tables[batch.destination.key].schema.columns}
            columns |= {change.column for change in batch.decisions.approved}
            if needed in batch.decisions.rejected and needed not in batch.decisions.approved:
                return FileOutcome(file_id, OutcomeStatus.LOADED, rows=ROWS, rows_rescued=1)
            if needed.column not in columns:
                return FileOutcome(file_id, OutcomeStatus.NEEDS_APPROVAL, needs=(needed,))
        if path in self.bad:
            return FileOutcome(file_id, OutcomeStatus.FAILED, message=self.bad[path])
        if path in self.empty:
            return FileOutcome(file_id, OutcomeStatus.SKIPPED, message="the file is empty")
        return FileOutcome(file_id, OutcomeStatus.LOADED, rows=ROWS)

    def _check_available(self) -> None:
        if self.unavailable is not None:
            raise self.unavailable


def _require(table: Table, table_uuid: UUID | None) -> None:
    if table_uuid not in (None, table.uuid):
        raise TableReplacedError("this is another table")
