"""Files in a table's folders that the table does not know: what killed workers and refused commits have left. Everything here blocks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

from pyarrow import fs
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from integrations.engines.embedded.snapshot_files import files_of, remove

log = logging.getLogger(__name__)

ORPHAN_AGE = timedelta(days=3)
"""Younger files may belong to a commit that is under way. The default of `remove_orphan_files` in Iceberg's own procedures."""
_FOLDERS = ("data", "metadata")
_OURS = (".parquet", ".avro", ".metadata.json")
"""How the files end that writers of tables leave. Nothing else is ever removed."""


def remove_orphans(table: Table, *, now: datetime) -> int:
    """Remove old files of the table's folders that no snapshot and no metadata refers to; how many.

    Nothing happens where a reference cannot be told for certain to be, or not to be, one of the files that were listed.
    """
    io = table.io
    if not isinstance(io, PyArrowFileIO):
        return 0
    roots = [f"{table.location().rstrip('/')}/{folder}/" for folder in _FOLDERS]
    # Listed first: what is committed after the listing is not in it, and what was committed before is known below.
    old = {location for root in roots for location in old_files(io, root, before=now - ORPHAN_AGE)}
    if not old:
        return 0
    known = _referenced(table.refresh())
    if strays := [location for location in known if not location.startswith(tuple(roots))]:
        log.warning("%s: files that nothing refers to are left, for %s is referred to elsewhere", ".".join(table.name()), strays[0])
        return 0
    orphans = old - known
    for location in orphans:
        remove(io, location)
    if orphans:
        log.info("%s: %d files that nothing referred to were removed", ".".join(table.name()), len(orphans))
    return len(orphans)


def old_files(io: PyArrowFileIO, root: str, *, before: datetime) -> Iterator[str]:
    """Locations below `root`, a folder with its slash, as the table writes them; none when the folder cannot be told for certain."""
    scheme, netloc, path = io.parse_location(root, io.properties)
    if not root.endswith(path):
        # A `?` or `#` in it was taken for the end of the path.
        return
    selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
    for info in io.fs_by_scheme(scheme, netloc).get_file_info(selector):
        if info.type is fs.FileType.File and info.path.endswith(_OURS) and info.mtime is not None and info.mtime < before:
            yield root + info.path.removeprefix(path)


def _referenced(table: Table) -> set[str]:
    metadata = table.metadata
    return {
        table.metadata_location,
        *(entry.metadata_file for entry in metadata.metadata_log),
        *(file.statistics_path for file in (*metadata.statistics, *metadata.partition_statistics)),
        *files_of(table.io, metadata.snapshots),
    }
