"""What turns files into rows of an Iceberg table: the port to the engines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from domain.errors import UnavailableError
from domain.ingestions.entities import Destination, FormatSpec, Policies, Source
from domain.ports.object_store import StoredObject
from domain.tenants import Grants

BATCH_ID_PROPERTY = "autoloader.batch-id"
"""The snapshot property that says which batch a table commit carries."""
EPOCH_PROPERTY = "autoloader.epoch"
"""The snapshot property with the lease epoch under which the commit was made."""
SOURCE_FILE_COLUMN = "_source_file"
BATCH_ID_COLUMN = "_batch_id"
RESCUED_DATA_COLUMN = "_rescued_data"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table or a file; `type` in Iceberg's notation (`long`, `struct<a: string>`)."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The user's columns, in the table's order; provenance columns are not among them."""

    columns: tuple[Column, ...]


Replaced = Mapping[str, frozenset[UUID]]
"""Rows that leave a table, by their source path: those that these batches have brought."""

NONE_REPLACED: Replaced = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column as the table has it (`before`, None for a new one) and as it is to be; types as in `Column`.

    New fields of an object, and safe promotions inside one, are changes of the column that they are in.
    """

    column: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Decisions:
    """What people have said about changes of the table's columns, where they are asked (REQUIRE_APPROVAL).

    Each new column, new field and promoted type of a change counts for itself, whichever file brings it. What is approved in
    one change and rejected in another is approved.
    """

    approved: tuple[ColumnChange, ...] = ()
    rejected: tuple[ColumnChange, ...] = ()


NO_DECISIONS = Decisions()


@dataclass(frozen=True, slots=True)
class BatchFile:
    """One file of a batch; `file_id` is its row in the ledger.

    `replaces` are the batches that have brought earlier versions of the file whose rows it takes the place of.
    """

    file_id: int
    object: StoredObject
    replaces: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class LoadBatch:
    """Files that one table commit carries, and all that is needed to read and write them.

    `table_uuid` is the table that the ingestion has loaded into before, None when it has loaded into none since it was made or refreshed.
    """

    batch_id: UUID
    epoch: int
    ingestion_id: UUID
    table_uuid: UUID | None
    source: Source
    grants: Grants
    format: FormatSpec
    destination: Destination
    policies: Policies
    files: Sequence[BatchFile]
    decisions: Decisions = NO_DECISIONS

    @property
    def replaces(self) -> Replaced:
        return {file.object.path: file.replaces for file in self.files if file.replaces}


class OutcomeStatus(StrEnum):
    LOADED = "LOADED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    NEEDS_APPROVAL = "NEEDS_APPROVAL"


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file.

    `rows` are this file's rows in the table, of which `rows_rescued` carry `_rescued_data`; `rows_skipped` are not in the
    table. Rows read = `rows` + `rows_skipped`, always. SKIPPED: the file is empty, and `message` says so. FAILED:
    nothing of the file is in the table and `message` tells a person why; `transient` when another try may help.
    NEEDS_APPROVAL: nothing of the file is in the table, for it holds values that have no place there; with the changes that it
    `needs` they would have one. These are relative to the table's columns with all approved changes, in the order of their
    columns' names, and files that need the same say it in the same words.
    """

    file_id: int
    status: OutcomeStatus
    rows: int = 0
    rows_skipped: int = 0
    rows_rescued: int = 0
    message: str | None = None
    transient: bool = False
    needs: tuple[ColumnChange, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """One outcome per file of the batch, in the batch's order. `snapshot_id` is None when no row had to be written or removed.

    `snapshots` is how many the table has, once the batch is in it; None without a commit.

    `schema_before` is None when the table was created by this batch; `schema_after` and `table_uuid` are None when there
    is still no table.
    """

    files: Sequence[FileOutcome]
    snapshot_id: int | None
    table_uuid: UUID | None
    schema_before: TableSchema | None
    schema_after: TableSchema | None
    snapshots: int | None = None


@dataclass(frozen=True, slots=True)
class BatchEvidence:
    """What the table knows of a batch: rows per source path, and the snapshot (None when it has expired).

    `replaced` are those of the paths asked about whose earlier rows are not in the table any more.
    """

    snapshot_id: int | None
    rows_by_path: Mapping[str, int]
    replaced: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as it is now; `rows` is the total of its current snapshot."""

    uuid: UUID
    snapshot_id: int | None
    schema: TableSchema
    rows: int


@dataclass(frozen=True, slots=True)
class Preview:
    """Inferred columns and the first rows, as JSON-ready mappings from column name to value."""

    schema: TableSchema
    rows: Sequence[Mapping[str, object]]


class TableUnavailableError(UnavailableError):
    """The catalog or the table does not answer, or is not the table it was. Never to be read as 'not committed'."""


class TableMissingError(TableUnavailableError):
    """There is no table where one was asked about."""


class TableReplacedError(TableUnavailableError):
    """There is a table of that name, but not the one that was loaded into before."""


CommitGuard = Callable[[], Awaitable[None]]
"""Returns while the worker still holds the batch's lease, else raises `LeaseLostError`. Asked before every commit try."""


class Engine(Protocol):
    """Loads files and answers for tables. Blocking work never runs on the event loop."""

    async def infer(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject]) -> TableSchema:
        """The schema that the objects would give a new table. Raises `ValidationError` when none can be read."""
        ...

    async def preview(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject], *, limit: int) -> Preview:
        """Schema and at most `limit` rows; writes nothing. Raises `ValidationError` when none can be read."""
        ...

    async def load(self, batch: LoadBatch, guard: CommitGuard) -> BatchOutcome:
        """Write the batch's readable files in one table commit whose snapshot carries the batch id and the epoch.

        The same commit takes out the rows that the files replace: of LOADED and SKIPPED ones, so that an empty file leaves no row of
        its path; those of a FAILED one stay.

        Creates the table when it is missing, as a commit of its own before the guard, so that a missing table proves that
        no append of this batch can be under way. A bad file is FAILED in the outcome and does not keep the others out.

        With REQUIRE_APPROVAL, a file that holds values without a place in the table NEEDS_APPROVAL. Approved changes are made in
        the batch's own commit, as far as its files bring them; values of rejected ones are kept, raw, in `_rescued_data`, or
        follow the bad-row policy where a promotion was rejected. A table that is to be created takes what is not rejected.

        Awaits `guard` immediately before each commit try; a `LeaseLostError` from it passes through, and nothing is
        committed. A concurrent commit by another is met by starting again from the table's new state, at the guard.
        Raises `TableUnavailableError` when the catalog fails.
        """
        ...

    async def fence(
        self, destination: Destination, *, table_uuid: UUID | None, batch_id: UUID, epoch: int, replaces: Replaced = NONE_REPLACED
    ) -> BatchEvidence | None:
        """Make sure that no commit of the batch from an epoch below `epoch` can still happen, then say whether one did.

        Commits an empty snapshot on main as the fence, then looks for the batch in main's ancestry and, when snapshots have expired, in
        the rows' provenance columns: for rows that the batch has brought, and for those that it `replaces`, all of which were in the
        table before it. None: the batch is not in the table and never will be under an older epoch. Raises `TableMissingError` when there
        is no table, `TableReplacedError` when `table_uuid` is given and is not the table's, `TableUnavailableError` when the catalog
        fails: it never guesses.
        """
        ...

    async def table_state(self, destination: Destination) -> TableState | None:
        """The table now, or None when there is none. Raises `TableUnavailableError`."""
        ...

    async def remove_rows(self, destination: Destination, *, table_uuid: UUID | None, path_prefix: str, guard: CommitGuard) -> int:
        """Remove the rows whose source file's path begins with `path_prefix`, in one table commit; how many.

        Awaits `guard` before each commit try, as `load` does. 0, and no commit, when there is no table or no such row. Raises
        `TableReplacedError` when `table_uuid` is given and is not the table's, `TableUnavailableError` when the catalog fails.
        """
        ...

    def rows_by_file(self, destination: Destination, *, table_uuid: UUID | None) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        """How many rows the table holds of each source file, in the order of the files' paths (by code points), in chunks.

        Of one snapshot. Nothing for a missing table. Raises `TableReplacedError` when `table_uuid` is given and is not the table's,
        `TableUnavailableError`.
        """
        ...

    async def drop_table(self, destination: Destination, *, table_uuid: UUID | None = None) -> bool:
        """Drop the table and its files; False when there was none.

        Raises `TableReplacedError`, and drops nothing, when `table_uuid` is given and is not the table's; `TableUnavailableError`.
        """
        ...

    async def optimize(self, destination: Destination) -> None:
        """Merge small files and expire what nobody needs; the rows stay the same."""
        ...
