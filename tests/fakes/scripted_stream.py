"""A stream in memory, over the tables of a scripted engine: it keeps what it has seen by checkpoint, as a server does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from uuid import UUID

from domain.ingestions.entities import Destination
from domain.ports.engine import TableReplacedError, TableUnavailableError
from domain.ports.streaming import Committed, StreamCommit, StreamedFile, StreamHistory, StreamMetrics, StreamOrder
from tests.factories import NOW
from tests.fakes.object_store import FakeObjectStores
from tests.fakes.scripted_engine import ROWS, ScriptedEngine, Snapshot, Table


async def _go_on(_epoch: int) -> None:
    return None


class ScriptedStream:
    """`blank` paths bring no rows. `after_commit` runs when an epoch is in the table and nobody has been told; it may raise or wait."""

    def __init__(self, engine: ScriptedEngine, stores: FakeObjectStores) -> None:
        self._engine = engine
        self._stores = stores
        self.blank: set[str] = set()
        self.orders: list[StreamOrder] = []
        self.unavailable: TableUnavailableError | None = None
        self.after_commit: Callable[[int], Awaitable[None]] = _go_on
        self.epochs: dict[str, list[tuple[int, Table, Snapshot]]] = defaultdict(list)
        """What each checkpoint's stream has committed."""
        self._seen: dict[str, set[str]] = defaultdict(set)

    async def execute(self, order: StreamOrder, committed: Committed) -> StreamMetrics:
        self.orders.append(order)
        self._check_available()
        listed = [stored.path async for chunk in self._stores.open(order.source, order.grants).list() for stored in chunk]
        fresh = [path for path in listed if path not in self._seen[order.checkpoint]]
        table = self._engine.tables.setdefault(order.destination.key, Table(self._engine.schema))
        metrics = StreamMetrics()
        for first in range(0, len(fresh), order.max_files):
            paths = fresh[first : first + order.max_files]
            rows = {path: ROWS for path in paths if path not in self.blank}
            epoch = len(self.epochs[order.checkpoint])
            table.snapshots.append(Snapshot(len(table.snapshots) + 1, None, rows))
            self.epochs[order.checkpoint].append((epoch, table, table.snapshots[-1]))
            self._seen[order.checkpoint].update(paths)
            await self.after_commit(epoch)
            await committed()
            metrics = replace(metrics, rows=metrics.rows + sum(rows.values()), files=metrics.files + len(rows), epochs=metrics.epochs + 1)
        return metrics

    async def history(self, destination: Destination, *, table_uuid: UUID | None, checkpoint: str) -> StreamHistory:
        self._check_available()
        table = self._engine.tables.get(destination.key)
        if table is None:
            return StreamHistory(None, None, (), 0)
        if table_uuid not in (None, table.uuid):
            raise TableReplacedError("this is another table")
        ids = {snapshot.id for snapshot in table.snapshots if not snapshot.expired}
        commits = [
            StreamCommit(epoch, snapshot.id, NOW)
            for epoch, into, snapshot in self.epochs[checkpoint]
            if into is table and snapshot.id in ids
        ]
        return StreamHistory(table.uuid, table.schema, commits, len(table.snapshots))

    async def files_of(self, destination: Destination, *, table_uuid: UUID | None, commit: StreamCommit) -> Sequence[StreamedFile]:
        self._check_available()
        table = self._engine.tables[destination.key]
        snapshot = next(snapshot for snapshot in table.snapshots if snapshot.id == commit.snapshot_id)
        return [StreamedFile(path, rows) for path, rows in sorted(snapshot.rows.items())]

    def _check_available(self) -> None:
        if self.unavailable is not None:
            raise self.unavailable
