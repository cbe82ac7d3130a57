"""What an ingestion's runs have done between two moments, in sum."""

from __future__ import annotations

from dataclasses import dataclass

from domain.runs.entities import Run


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Of ended runs. `listings` counts how often they listed the source to its end, `files_read` the files that they settled;

    `files_loaded` and `bytes_loaded` are of loaded files only.
    """

    runs: int = 0
    seconds: float = 0.0
    listings: int = 0
    files_read: int = 0
    files_loaded: int = 0
    bytes_loaded: int = 0

    @classmethod
    def of(cls, run: Run) -> RunTotals:
        """Those of one run: nothing yet while it has not ended."""
        if run.ended_at is None:
            return cls()
        return cls(1, run.duration_seconds or 0.0, run.listings, run.metrics.files_settled, run.files_processed, run.bytes_processed)

    def __add__(self, other: RunTotals) -> RunTotals:
        return RunTotals(
            self.runs + other.runs,
            self.seconds + other.seconds,
            self.listings + other.listings,
            self.files_read + other.files_read,
            self.files_loaded + other.files_loaded,
            self.bytes_loaded + other.bytes_loaded,
        )
