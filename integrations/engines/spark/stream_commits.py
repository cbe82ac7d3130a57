"""What a stream has committed, as the table tells it: its snapshots name checkpoint and epoch. Everything here blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile, ManifestEntryStatus
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot

from domain.ingestions.entities import Destination
from domain.ports.engine import RESCUED_DATA_COLUMN, SOURCE_FILE_COLUMN, TableUnavailableError
from domain.ports.streaming import CHECKPOINT_PROPERTY, StreamCommit, StreamedFile, StreamHistory
from integrations.engines.embedded.commits import main_ancestry
from integrations.engines.embedded.tables import Tables, catalog_errors, table_schema, user_columns

EPOCH_PROPERTY = "spark.sql.streaming.epochId"
"""Iceberg's sink writes it, and commits no epoch of a query that it finds there."""


def history(tables: Tables, destination: Destination, table_uuid: UUID | None, checkpoint: str) -> StreamHistory:
    """See `domain.ports.streaming.StreamingEngine.history`."""
    with catalog_errors():
        table = tables.find_the_one(destination, table_uuid)
        if table is None:
            return StreamHistory(None, None, (), 0)
        commits = sorted(_commits(table, checkpoint), key=lambda commit: commit.epoch)
        twice = [epoch for epoch, times in Counter(commit.epoch for commit in commits).items() if times > 1]
        if twice:
            told = f"epoch {twice[0]} of the stream is in {destination.key} twice"
            raise TableUnavailableError(f"{told}: two servers have worked from one checkpoint; refresh it (FULL)")
        schema = table_schema(user_columns(table.schema()))
        return StreamHistory(UUID(str(table.metadata.table_uuid)), schema, commits, len(table.metadata.snapshots))


def files_of(tables: Tables, destination: Destination, table_uuid: UUID | None, commit: StreamCommit) -> Sequence[StreamedFile]:
    """See `domain.ports.streaming.StreamingEngine.files_of`."""
    with catalog_errors():
        table = tables.find_the_one(destination, table_uuid)
        snapshot = table.snapshot_by_id(commit.snapshot_id) if table is not None else None
        if table is None or snapshot is None:
            raise TableUnavailableError(f"a commit to {destination.key} has gone while it was being read; try again")
        rows: Counter[str] = Counter()
        rescued: Counter[str] = Counter()
        for part in _provenance(table, snapshot):
            counted = part.group_by(SOURCE_FILE_COLUMN).aggregate([([], "count_all"), (RESCUED_DATA_COLUMN, "count")])
            for item in counted.to_pylist():
                rows[item[SOURCE_FILE_COLUMN]] += item["count_all"]
                rescued[item[SOURCE_FILE_COLUMN]] += item[f"{RESCUED_DATA_COLUMN}_count"]
        return [StreamedFile(path, rows[path], rescued[path]) for path in sorted(rows)]


def _commits(table: Table, checkpoint: str) -> Iterator[StreamCommit]:
    for snapshot in main_ancestry(table):
        properties = snapshot.summary.additional_properties if snapshot.summary is not None else {}
        if properties.get(CHECKPOINT_PROPERTY) == checkpoint and EPOCH_PROPERTY in properties:
            at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
            yield StreamCommit(int(properties[EPOCH_PROPERTY]), snapshot.snapshot_id, at)


def _provenance(table: Table, snapshot: Snapshot) -> Iterator[pa.Table]:
    """Source file and raw text of the rows that a snapshot has added, a data file at a time."""
    scan = ArrowScan(table.metadata, table.io, table.schema().select(SOURCE_FILE_COLUMN, RESCUED_DATA_COLUMN), AlwaysTrue())
    for data_file in _added(table, snapshot):
        yield scan.to_table([FileScanTask(data_file)])


def _added(table: Table, snapshot: Snapshot) -> Iterator[DataFile]:
    for manifest in snapshot.manifests(table.io):
        if manifest.added_snapshot_id == snapshot.snapshot_id:
            for entry in manifest.fetch_manifest_entry(table.io):
                if entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot.snapshot_id:
                    yield entry.data_file
