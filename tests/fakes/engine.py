"""An engine in memory that reads real files of JSON lines through the store, and passes the engines' contract.

For tests that want files and rows but no catalog. What is to go wrong is set on its attributes.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from domain.errors import ValidationError
from domain.ingestions.entities import BadRowPolicy, Destination, FormatSpec, Policies, SchemaEvolution, Source
from domain.ports.engine import (
    BATCH_ID_COLUMN,
    NO_DECISIONS,
    NONE_REPLACED,
    RESCUED_DATA_COLUMN,
    SOURCE_FILE_COLUMN,
    BatchEvidence,
    BatchOutcome,
    Column,
    ColumnChange,
    CommitGuard,
    Decisions,
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
from domain.ports.object_store import ObjectStores, StagedObject, StoredObject
from domain.tenants import Grants

Row = dict[str, Any]
_LEFT = (OutcomeStatus.FAILED, OutcomeStatus.NEEDS_APPROVAL)
_TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}


@dataclass(frozen=True)
class Snapshot:
    """What one commit added; `batch_id` is None for a fence."""

    id: int
    batch_id: UUID | None
    rows: Sequence[Row]


@dataclass
class FakeTable:
    columns: dict[str, str]
    uuid: UUID = field(default_factory=uuid4)
    snapshots: list[Snapshot] = field(default_factory=list)

    @property
    def head(self) -> int | None:
        return self.snapshots[-1].id if self.snapshots else None

    @property
    def rows(self) -> list[Row]:
        empty = dict.fromkeys([*self.columns, RESCUED_DATA_COLUMN])
        return [{**empty, **row} for snapshot in self.snapshots for row in snapshot.rows]

    def having(self, replaces: Replaced) -> set[str]:
        """The paths of which there are rows to go."""
        return {row[SOURCE_FILE_COLUMN] for row in self.rows if _goes(row, replaces)}

    def take_out(self, replaces: Replaced) -> None:
        self.snapshots = [replace(s, rows=[row for row in s.rows if not _goes(row, replaces)]) for s in self.snapshots]

    @property
    def schema(self) -> TableSchema:
        return TableSchema(tuple(Column(name, type_) for name, type_ in self.columns.items()))


def _goes(row: Row, replaces: Replaced) -> bool:
    return UUID(row[BATCH_ID_COLUMN]) in replaces.get(row[SOURCE_FILE_COLUMN], ())


async def _go_on(_batch: LoadBatch) -> None:
    return None


class FakeEngine:
    """`failing` says by path why a file is bad; `unavailable` is raised by whatever asks the catalog; the hooks may raise or wait."""

    def __init__(self, stores: ObjectStores) -> None:
        self.tables: dict[str, FakeTable] = {}
        self.failing: dict[str, str] = {}
        self.unavailable: TableUnavailableError | None = None
        self.before_commit: Callable[[LoadBatch], Awaitable[None]] = _go_on
        """Between the guard's answer and the commit."""
        self.after_commit: Callable[[LoadBatch], Awaitable[None]] = _go_on
        self._stores = stores
        self._snapshot_ids = itertools.count(1)

    async def infer(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject]) -> TableSchema:
        return (await self.preview(source, grants, format, objects, limit=0)).schema

    async def preview(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject], *, limit: int) -> Preview:
        reading = _Reading(None, Policies(), self.failing)
        await self._read(reading, source, grants, objects)
        if all(outcome.status is OutcomeStatus.FAILED for outcome in reading.outcomes):
            raise ValidationError.of("source", "path", message="; ".join(outcome.message or "" for outcome in reading.outcomes))
        columns = [name for name in reading.columns if name in reading.columns]
        rows = [{name: row.get(name) for name in columns} for row in reading.rows[:limit]]
        return Preview(FakeTable(reading.columns).schema, rows)

    async def load(self, batch: LoadBatch, guard: CommitGuard) -> BatchOutcome:
        before = self._table(batch.destination)
        if batch.table_uuid is not None:
            if before is None:
                raise TableMissingError(f"{batch.destination.key} is gone")
            if before.uuid != batch.table_uuid:
                raise TableReplacedError(f"{batch.destination.key} is another table")
        schema_before = before.schema if before else None
        while True:
            table = self._table(batch.destination)
            reading = _Reading(table.columns if table else None, batch.policies, self.failing, batch.decisions)
            await self._read(reading, batch.source, batch.grants, [file.object for file in batch.files])
            outcomes = [replace(outcome, file_id=file.file_id) for outcome, file in zip(reading.outcomes, batch.files, strict=True)]
            loaded = {file.object.path for file, o in zip(batch.files, outcomes, strict=True) if o.status not in _LEFT}
            replaces = {path: batches for path, batches in batch.replaces.items() if path in loaded}
            if not reading.rows and not (table and table.having(replaces)):
                return BatchOutcome(outcomes, None, table.uuid if table else None, schema_before, table.schema if table else None)
            if table is None:
                table = self.tables[batch.destination.key] = FakeTable(dict(reading.columns))
            base = table.head
            await guard()
            await self.before_commit(batch)
            if self._table(batch.destination) is not table:
                raise TableUnavailableError("the table was dropped or replaced")
            if table.head != base:
                continue
            rows = [{**row, BATCH_ID_COLUMN: str(batch.batch_id)} for row in reading.rows]
            table.take_out(replaces)
            snapshot = Snapshot(next(self._snapshot_ids), batch.batch_id, rows)
            table.snapshots.append(snapshot)
            table.columns = dict(reading.columns)
            outcome = BatchOutcome(outcomes, snapshot.id, table.uuid, schema_before, table.schema, len(table.snapshots))
            await self.after_commit(batch)
            return outcome

    async def fence(
        self, destination: Destination, *, table_uuid: UUID | None, batch_id: UUID, epoch: int, replaces: Replaced = NONE_REPLACED
    ) -> BatchEvidence | None:
        table = self._table(destination)
        if table is None:
            raise TableMissingError(f"there is no table {destination.key}")
        if table_uuid not in (None, table.uuid):
            raise TableReplacedError(f"{destination.key} is another table")
        table.snapshots.append(Snapshot(next(self._snapshot_ids), None, []))
        for snapshot in table.snapshots:
            if snapshot.batch_id == batch_id:
                brought = Counter(row[SOURCE_FILE_COLUMN] for row in snapshot.rows)
                return BatchEvidence(snapshot.id, brought, frozenset(replaces.keys() - table.having(replaces)))
        return None

    async def table_state(self, destination: Destination) -> TableState | None:
        table = self._table(destination)
        return TableState(table.uuid, table.head, table.schema, len(table.rows)) if table else None

    async def rows_by_file(self, destination: Destination, *, table_uuid: UUID | None) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        table = self._table(destination)
        if table is None:
            return
        if table_uuid not in (None, table.uuid):
            raise TableReplacedError(f"{destination.key} is another table")
        yield sorted(Counter(row[SOURCE_FILE_COLUMN] for row in table.rows).items())

    async def remove_rows(self, destination: Destination, *, table_uuid: UUID | None, path_prefix: str, guard: CommitGuard) -> int:
        while True:
            table = self._table(destination)
            if table is None:
                return 0
            if table_uuid not in (None, table.uuid):
                raise TableReplacedError(f"{destination.key} is another table")
            going = sum(row[SOURCE_FILE_COLUMN].startswith(path_prefix) for row in table.rows)
            base = table.head
            if not going:
                return 0
            await guard()
            if self._table(destination) is table and table.head == base:
                break
        table.snapshots = [
            replace(snapshot, rows=[row for row in snapshot.rows if not row[SOURCE_FILE_COLUMN].startswith(path_prefix)])
            for snapshot in table.snapshots
        ]
        table.snapshots.append(Snapshot(next(self._snapshot_ids), None, []))
        return going

    async def drop_table(self, destination: Destination, *, table_uuid: UUID | None = None) -> bool:
        table = self._table(destination)
        if table is not None and table_uuid not in (None, table.uuid):
            raise TableReplacedError(f"{destination.key} is another table")
        return table is not None and self.tables.pop(destination.key) is not None

    async def optimize(self, destination: Destination) -> None:
        self._table(destination)

    def _table(self, destination: Destination) -> FakeTable | None:
        if self.unavailable is not None:
            raise self.unavailable
        return self.tables.get(destination.key)

    async def _read(self, reading: _Reading, source: Source, grants: Grants, objects: Sequence[StoredObject]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for staged in await self._stores.open(source, grants).stage(objects, Path(folder)):
                reading.read(staged)


class _Reading:
    """Rows and outcomes of a batch's files, under the policies; `columns` grows."""

    def __init__(
        self,
        existing: Mapping[str, str] | None,
        policies: Policies,
        failing: Mapping[str, str],
        decisions: Decisions = NO_DECISIONS,
    ) -> None:
        self.columns = dict(existing or {})
        self.rows: list[Row] = []
        self.outcomes: list[FileOutcome] = []
        self._policies = policies
        self._failing = failing
        self._takes_new = existing is None or policies.schema_evolution is SchemaEvolution.ADD_NEW_COLUMNS
        self._asks = policies.schema_evolution is SchemaEvolution.REQUIRE_APPROVAL
        self._approved = {change.column: change.after for change in decisions.approved}
        self._rejected = {(change.column, change.after) for change in decisions.rejected}

    def read(self, staged: StagedObject) -> None:
        path = staged.object.path
        try:
            if staged.local_path is None:
                raise _BadFileError(staged.error or "it could not be read")
            if path in self._failing:
                raise _BadFileError(self._failing[path])
            self._take(path, staged.local_path.read_text())
        except _BadFileError as error:
            self.outcomes.append(FileOutcome(0, OutcomeStatus.FAILED, message=str(error), transient=staged.transient))

    def _take(self, path: str, text: str) -> None:
        if not text.strip():
            self.outcomes.append(FileOutcome(0, OutcomeStatus.SKIPPED, message="The file is empty."))
            return
        columns, rows, skipped, needed = dict(self.columns), [], 0, {}
        for number, line in enumerate(text.splitlines(), 1):
            row, bad = self._row(columns, line, needed)
            if bad and self._policies.bad_rows is BadRowPolicy.FAIL_FILE:
                raise _BadFileError(f"Line {number}: {bad}")
            if bad and self._policies.bad_rows is BadRowPolicy.SKIP_ROW:
                skipped += 1
            else:
                rows.append({**row, SOURCE_FILE_COLUMN: path})
        if not text.endswith("\n") and skipped:
            raise _BadFileError("The file is truncated.")
        if needed:
            needs = tuple(ColumnChange(name, None, type_) for name, type_ in sorted(needed.items()))
            self.outcomes.append(FileOutcome(0, OutcomeStatus.NEEDS_APPROVAL, needs=needs))
            return
        self.columns = columns
        self.rows += rows
        rescued = sum(RESCUED_DATA_COLUMN in row for row in rows)
        self.outcomes.append(FileOutcome(0, OutcomeStatus.LOADED, len(rows), skipped, rescued))

    def _row(self, columns: dict[str, str], line: str, needed: dict[str, str]) -> tuple[Row, str | None]:
        """The row as it is stored, and what is wrong with it. New columns are added to `columns`, those to ask for to `needed`."""
        try:
            found = json.loads(line)
        except ValueError:
            return {RESCUED_DATA_COLUMN: line}, "it is not valid JSON"
        row: Row = {}
        bad = None
        for name, value in found.items():
            type_ = _TYPES.get(type(value), "string")
            if value is None:
                continue
            if name not in columns and self._asks and not self._is_decided(columns, name, type_):
                if (name, type_) in self._rejected:
                    row[RESCUED_DATA_COLUMN] = line
                else:
                    needed[name] = type_
                continue
            if name not in columns and self._takes_new:
                columns[name] = type_
            if name not in columns:
                if self._policies.schema_evolution is SchemaEvolution.FAIL_ON_NEW_COLUMNS:
                    raise _BadFileError(f'The file has columns that the table does not have: "{name}".')
                if self._policies.schema_evolution is SchemaEvolution.RESCUE:
                    row[RESCUED_DATA_COLUMN] = line
            elif columns[name] == type_:
                row[name] = value
            else:
                bad = f'column "{name}": {value!r} is not of type {columns[name]}'
                row[RESCUED_DATA_COLUMN] = line
        return row, bad

    def _is_decided(self, columns: dict[str, str], name: str, type_: str) -> bool:
        """Whether the table may have the column without anybody being asked; an approved one is added."""
        if name in self._approved:
            columns[name] = self._approved[name]
        return name in self._approved or (self._takes_new and (name, type_) not in self._rejected)


class _BadFileError(Exception):
    pass
