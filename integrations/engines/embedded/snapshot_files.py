"""The files that snapshots are made of. Everything here blocks."""

from __future__ import annotations

from collections.abc import Iterable

from pyiceberg.io import FileIO
from pyiceberg.table.snapshots import Snapshot


def files_of(io: FileIO, snapshots: Iterable[Snapshot]) -> set[str]:
    """Every file that snapshots refer to: manifest lists, manifests and data."""
    files: set[str] = set()
    seen: set[str] = set()
    for snapshot in snapshots:
        files.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(io):
            if manifest.manifest_path not in seen:
                seen.add(manifest.manifest_path)
                files.add(manifest.manifest_path)
                files.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(io, discard_deleted=True))
    return files


def remove(io: FileIO, location: str) -> None:
    """What cannot be removed is left: it costs space, and nothing else."""
    try:
        io.delete(location)
    except OSError:
        return
