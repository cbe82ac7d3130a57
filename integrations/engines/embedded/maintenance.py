"""Keeps a table quick to read and to commit to. Everything here blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, islice

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table

from domain.ingestions.entities import Destination
from domain.ports.engine import SOURCE_FILE_COLUMN, TableUnavailableError
from integrations.engines.embedded.commits import forbid_retries, main_ancestry, replace_files
from integrations.engines.embedded.data_file_rows import STAGED_ROWS, pieces, stage
from integrations.engines.embedded.data_files import DataFileWriter, remove_data_files
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.orphans import remove_orphans
from integrations.engines.embedded.snapshot_files import files_of, remove
from integrations.engines.embedded.tables import Tables, catalog_errors
from integrations.engines.embedded.workspaces import Workspace

SMALL_FILE_BYTES = 16 << 20
MERGED_FILE_BYTES = 64 << 20
FEWEST_TO_MERGE = 4
KEPT_SNAPSHOTS = 50
KEPT_AGE = timedelta(hours=1)
"""A snapshot expires when it is older than this and is not among the newest `KEPT_SNAPSHOTS`."""
OPTIMIZE_TRIES = 5


def optimize(work: Workspace, tables: Tables, destination: Destination) -> None:
    """Merge small data files, expire old snapshots, and remove files that nothing refers to; nothing for a missing table.

    Each of the first two is a commit of its own.
    """
    for _ in range(OPTIMIZE_TRIES):
        try:
            with catalog_errors():
                table = tables.find(destination)
                if table is not None:
                    table = _merge_small_files(work, forbid_retries(table))
                    _expire(table)
                    remove_orphans(table, now=datetime.now(UTC))
            return
        except CommitConflictError:
            continue
    raise TableUnavailableError(f"{destination.key} was changed by others {OPTIMIZE_TRIES} times while it was being optimized; try again")


def _merge_small_files(work: Workspace, table: Table) -> Table:
    if SOURCE_FILE_COLUMN not in table.schema().column_names:
        return table
    bundles = list(_bundles(list(table.scan().plan_files())))
    if not bundles:
        return table
    merged: list[DataFile] = []
    try:
        writer = DataFileWriter(work.connection, table, table.schema(), work.folder)
        for bundle in bundles:
            rows = stage(work, chain.from_iterable(pieces(table, table.schema(), task) for task in bundle))
            merged += writer.write(f"FROM {STAGED_ROWS}", rows).data_files
    except BaseException:
        remove_data_files(table.io, merged)
        raise
    try:
        return _replace(table, [task.file for bundle in bundles for task in bundle], merged)
    except CommitConflictError:
        remove_data_files(table.io, merged)
        raise


def _bundles(tasks: Sequence[FileScanTask]) -> Iterator[list[FileScanTask]]:
    """Small files of one partition that are worth merging, as many as make one file."""
    by_partition: dict[tuple[int, str], list[FileScanTask]] = defaultdict(list)
    for task in tasks:
        if task.file.file_size_in_bytes < SMALL_FILE_BYTES and not task.delete_files:
            by_partition[task.file.spec_id, repr(task.file.partition)].append(task)
    for alike in by_partition.values():
        if len(alike) < FEWEST_TO_MERGE:
            continue
        bundle: list[FileScanTask] = []
        size = 0
        for task in sorted(alike, key=lambda task: task.file.file_path):
            if size + task.file.file_size_in_bytes > MERGED_FILE_BYTES:
                yield bundle
                bundle, size = [], 0
            bundle.append(task)
            size += task.file.file_size_in_bytes
        if len(bundle) > 1:
            yield bundle


def _replace(table: Table, old: Sequence[DataFile], new: Sequence[DataFile]) -> Table:
    if sum(file.record_count for file in old) != sum(file.record_count for file in new):
        raise RuntimeError(f"{'.'.join(table.name())}: the merged files have another number of rows; nothing was replaced")
    return replace_files(table, old, new, {})


def _expire(table: Table) -> None:
    """Forget old snapshots of main, and remove the files that only they had."""
    ancestry = list(main_ancestry(table))
    newest = {snapshot.snapshot_id for snapshot in islice(ancestry, KEPT_SNAPSHOTS)}
    horizon = (datetime.now(UTC) - KEPT_AGE).timestamp() * 1000
    old = [snapshot for snapshot in ancestry if snapshot.snapshot_id not in newest and snapshot.timestamp_ms < horizon]
    if not old:
        return
    io = table.io
    before = files_of(io, old)
    try:
        table.maintenance.expire_snapshots().by_ids([snapshot.snapshot_id for snapshot in old]).commit()
    except CommitFailedException as error:
        raise CommitConflictError(str(error)) from error
    kept = files_of(io, table.refresh().snapshots())
    for location in before - kept:
        remove(io, location)
