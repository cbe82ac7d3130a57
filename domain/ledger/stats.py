"""How an ingestion's ledger stands, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from domain.ledger.entities import FileStatus


@dataclass(frozen=True, slots=True)
class FileCount:
    """The files in one status, their size, and the rows that were told of them when they were settled last.

    `absent` files were loaded, and are not in the table: a refresh has begun it anew without them. `earlier` ones are loaded versions
    that are not the current ones of their paths.
    """

    status: FileStatus
    files: int = 0
    size_bytes: int = 0
    rows: int = 0
    rows_skipped: int = 0
    rows_rescued: int = 0
    absent: bool = False
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Backlog:
    """Files that wait to be loaded. `oldest_discovered_at` is when the one that is known longest was seen first, None when none waits."""

    files: int
    size_bytes: int
    oldest_discovered_at: datetime | None


_NONE_ABSENT = FileCount(FileStatus.SUCCESS, absent=True)
_NONE_EARLIER = FileCount(FileStatus.SUCCESS, earlier=True)


@dataclass(frozen=True, slots=True)
class IngestionStats:
    """`by_status` has each status, in the order of their declaration: current versions, and those that are SUPERSEDED; of SUCCESS the
    files whose rows are in the table.

    `absent` are those that were loaded before a refresh and are not in it, `earlier` the versions whose rows are in the table beside, or
    until they are replaced by, those of the current one.

    `last_success_at` is when a run ended SUCCESS last, None before the first.
    """

    by_status: tuple[FileCount, ...]
    backlog: Backlog
    last_success_at: datetime | None
    absent: FileCount = _NONE_ABSENT
    earlier: FileCount = _NONE_EARLIER

    @classmethod
    def of(cls, counts: Iterable[FileCount], *, oldest_waiting_at: datetime | None, last_success_at: datetime | None) -> IngestionStats:
        """`counts` may leave out statuses in which there is no file."""
        counts = list(counts)
        found = {count.status: count for count in counts if not (count.absent or count.earlier)}
        absent = next((count for count in counts if count.absent and not count.earlier), _NONE_ABSENT)
        earlier = next((count for count in counts if count.earlier and not count.absent), _NONE_EARLIER)
        every = tuple(found.get(status, FileCount(status)) for status in FileStatus)
        waiting = every[list(FileStatus).index(FileStatus.PENDING)]
        return cls(every, Backlog(waiting.files, waiting.size_bytes, oldest_waiting_at), last_success_at, absent, earlier)

    def of_status(self, status: FileStatus) -> FileCount:
        return next(count for count in self.by_status if count.status is status)

    @property
    def files(self) -> int:
        """Paths that the ledger knows: earlier versions of a path are not counted again."""
        return self.absent.files + sum(count.files for count in self.by_status if count.status is not FileStatus.SUPERSEDED)

    @property
    def size_bytes(self) -> int:
        """The size of `files`."""
        return self.absent.size_bytes + sum(count.size_bytes for count in self.by_status if count.status is not FileStatus.SUPERSEDED)

    @property
    def files_absent_by_refresh(self) -> int:
        return self.absent.files

    @property
    def files_held(self) -> int:
        """Files that wait for a schema change to be approved."""
        return self.of_status(FileStatus.HELD).files

    @property
    def earlier_versions(self) -> int:
        """Versions that are not the current ones of their paths, and whose rows are in the table."""
        return self.earlier.files

    @property
    def bytes_loaded(self) -> int:
        """Of all versions whose rows are in the table, as the sums of rows are."""
        return self.of_status(FileStatus.SUCCESS).size_bytes + self.earlier.size_bytes

    @property
    def rows_loaded(self) -> int:
        return self.of_status(FileStatus.SUCCESS).rows + self.earlier.rows

    @property
    def rows_skipped(self) -> int:
        """Rows of loaded files that were left out by the bad-row policy."""
        return self.of_status(FileStatus.SUCCESS).rows_skipped + self.earlier.rows_skipped

    @property
    def rows_rescued(self) -> int:
        """Rows of loaded files with something in `_rescued_data`."""
        return self.of_status(FileStatus.SUCCESS).rows_rescued + self.earlier.rows_rescued

    @property
    def success_rate(self) -> float | None:
        """SUCCESS / (SUCCESS + FAILED), from 0 to 1; None when there are none of either."""
        loaded, failed = self.of_status(FileStatus.SUCCESS).files, self.of_status(FileStatus.FAILED).files
        return loaded / (loaded + failed) if loaded + failed else None
