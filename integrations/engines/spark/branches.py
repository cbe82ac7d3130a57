"""A branch for each batch: Spark commits to it as it likes, and PyIceberg moves what it holds onto main. Everything here blocks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from pyiceberg.manifest import DataFile, ManifestEntryStatus
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.table.update.snapshot import ExpireSnapshots, ManageSnapshots

from integrations.engines.embedded.commits import commit, main_ancestry, stage_batch
from integrations.engines.embedded.data_files import remove_data_files
from integrations.engines.embedded.row_rewrite import Rewrite

BRANCH_PREFIX = "autoloader_"


def branch_name(batch_id: UUID, epoch: int) -> str:
    return f"{BRANCH_PREFIX}{batch_id.hex}_{epoch}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a branch holds that main does not: its snapshots, and the data files that they have added."""

    branch: str
    snapshots: tuple[Snapshot, ...]
    added: tuple[DataFile, ...]


def prepared(table: Table, branch: str) -> Prepared:
    """What is on the branch of a table as it is loaded; nothing for a branch that is not there."""
    head = table.metadata.snapshot_by_name(branch)
    on_main = {snapshot.snapshot_id for snapshot in main_ancestry(table)}
    snapshots = tuple(snapshot for snapshot in ancestors_of(head, table.metadata) if snapshot.snapshot_id not in on_main)
    ids = {snapshot.snapshot_id for snapshot in snapshots}
    added = [
        entry.data_file
        for manifest in (head.manifests(table.io) if head is not None and snapshots else ())
        if manifest.added_snapshot_id in ids
        for entry in manifest.fetch_manifest_entry(table.io)
        if entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id in ids
    ]
    return Prepared(branch, snapshots, tuple(added))


def publish(table: Table, found: Prepared, *, batch_id: UUID, epoch: int, rewrite: Rewrite | None) -> Table:
    """Append the branch's data files to main and forget the branch, in one commit that requires the main that was loaded.

    The same commit puts other files into the place of those with rows that are replaced.

    Raises `CommitConflictError` when the table has moved since. Anything else that is raised leaves it open whether the commit took
    place.
    """
    transaction = table.transaction()
    stage_batch(transaction, found.added, batch_id=batch_id, epoch=epoch, rewrite=rewrite)
    _forget(transaction, found)
    published = commit(transaction)
    _remove_metadata(published, found)
    return published


def abandon(table: Table, found: Prepared) -> None:
    """Remove a branch and the data files that are on it and surely nowhere else. Raises `CommitConflictError`."""
    if found.branch not in table.metadata.refs:
        return
    transaction = table.transaction()
    _forget(transaction, found)
    _remove_metadata(commit(transaction), found)
    remove_data_files(table.io, found.added)


def _forget(transaction: Transaction, found: Prepared) -> None:
    if found.branch in transaction.table_metadata.refs:
        with ManageSnapshots(transaction) as references:
            references.remove_branch(found.branch)
    if found.snapshots:
        with ExpireSnapshots(transaction) as snapshots:
            snapshots.by_ids([snapshot.snapshot_id for snapshot in found.snapshots])


def _remove_metadata(table: Table, found: Prepared) -> None:
    """The manifests that only the branch had. Main's snapshot has manifests of its own for the same data files."""
    ids = {snapshot.snapshot_id for snapshot in found.snapshots}
    for snapshot in found.snapshots:
        with suppress(OSError):
            for manifest in snapshot.manifests(table.io):
                if manifest.added_snapshot_id in ids:
                    table.io.delete(manifest.manifest_path)
            table.io.delete(snapshot.manifest_list)
