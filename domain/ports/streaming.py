"""What loads a source by a stream that keeps its own progress, in a checkpoint: the port to structured streaming.

The stream and not the ledger decides which files are loaded. Its commits are numbered (epochs), and an epoch that is in the table is
not committed again. The ledger is filled afterwards, from what the table says that it holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.ingestions.entities import Destination, FormatSpec, Policies, Source
from domain.ports.engine import TableSchema
from domain.ports.object_store import StoredObject
from domain.tenants import Grants

CHECKPOINT_PROPERTY = "autoloader.checkpoint"
"""The snapshot property that says which checkpoint's stream has made a table commit."""


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """One pass over what the checkpoint has not seen. Rows carry the run's id as `_batch_id`, for they are written before their epoch
    is known.

    `samples` are files that wait: new columns are taken from them. An epoch has `max_files` at most.
    """

    run_id: UUID
    source: Source
    grants: Grants
    format: FormatSpec
    destination: Destination
    policies: Policies
    checkpoint: str
    samples: Sequence[StoredObject]
    max_files: int


@dataclass(frozen=True, slots=True)
class StreamMetrics:
    """What the stream says of itself: rows that it has read, files that brought them, epochs with data, and how long it took."""

    rows: int = 0
    rows_rescued: int = 0
    files: int = 0
    epochs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamCommit:
    """One epoch in the table."""

    epoch: int
    snapshot_id: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class StreamHistory:
    """The commits of one checkpoint's stream that main's ancestry shows, by epoch; without a table there are none.

    `snapshots` is how many the table has.
    """

    table_uuid: UUID | None
    schema: TableSchema | None
    commits: Sequence[StreamCommit]
    snapshots: int


@dataclass(frozen=True, slots=True)
class StreamedFile:
    """A file's rows in one commit, of which `rows_rescued` carry `_rescued_data`."""

    path: str
    rows: int
    rows_rescued: int = 0


Committed = Callable[[], Awaitable[None]]
"""Awaited after epochs have been committed. What it raises stops the stream, and passes through."""


class StreamingEngine(Protocol):
    """Blocking work never runs on the event loop."""

    async def execute(self, order: StreamOrder, committed: Committed) -> StreamMetrics:
        """Load what has landed until now, epoch by epoch; creates the table, or adds its new columns, first.

        An earlier stream of the checkpoint that still runs on the same server is stopped before. A cancelled caller has the stream stopped:
        once the cancellation passes through, nothing more is committed. Raises `TableUnavailableError` when the stream fails, and
        the epochs before stay committed; `ValidationError` when the source or the table cannot be what the ingestion says.
        """
        ...

    async def history(self, destination: Destination, *, table_uuid: UUID | None, checkpoint: str) -> StreamHistory:
        """What the checkpoint's stream has committed.

        Raises `TableReplacedError` when `table_uuid` is given and is not the table's; `TableUnavailableError` when the catalog fails, or
        when an epoch is in the table twice: then two servers have worked from the checkpoint at once.
        """
        ...

    async def files_of(self, destination: Destination, *, table_uuid: UUID | None, commit: StreamCommit) -> Sequence[StreamedFile]:
        """The files that have brought rows in a commit, by path. Raises as `history`."""
        ...
