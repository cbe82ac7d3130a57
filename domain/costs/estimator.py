"""What an ingestion will cost: a formula over what lies at its source, and every assumption of it said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from domain.costs.rates import CostRates
from domain.ingestions.entities import ClusterSize, FormatType, Schedule
from domain.ingestions.schedules import firings_per_month

OBJECTS_PER_LISTING = 1_000
"""Keys in one page of S3's ListObjectsV2."""
_CENT_FRACTION = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class SourceMeasure:
    """What lies at a source: everything, and what came in the last 30 days. `complete` is false when counting was cut off.

    `from_ledger`: it is what the ledger knows, and what was loaded in the last 30 days; else what a listing has shown.
    """

    files: int
    size_bytes: int
    recent_files: int
    recent_bytes: int
    complete: bool = True
    from_ledger: bool = False


@dataclass(frozen=True, slots=True)
class Costs:
    """In the rates' currency; `total` is their sum."""

    compute: Decimal
    requests: Decimal
    storage: Decimal

    @property
    def total(self) -> Decimal:
        return self.compute + self.requests + self.storage


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """`first_load` is what loading all that lies there costs once; `per_month` what goes on after that."""

    currency: str
    measure: SourceMeasure
    runs_per_month: float
    first_load_seconds: float
    seconds_per_run: float
    first_load: Costs
    per_month: Costs
    assumptions: tuple[str, ...]


class CostEstimator:
    def __init__(self, rates: CostRates) -> None:
        self._rates = rates

    def estimate(
        self, measure: SourceMeasure, format: FormatType, cluster: ClusterSize, schedule: Schedule | None, *, now: datetime
    ) -> CostEstimate:
        """Compute = time x the cluster's hourly price, where time = bytes / throughput + a constant per run.

        Requests = a read per file, and per run a listing of each 1,000 files. Storage = the table's expected size.
        """
        runs = self.runs_per_month(schedule, now)
        first_seconds = self.seconds(measure.size_bytes, format, cluster, runs=1)
        month_seconds = self.seconds(measure.recent_bytes, format, cluster, runs=runs)
        listings = _pages(measure.files)
        return CostEstimate(
            currency=self._rates.currency,
            measure=measure,
            runs_per_month=runs,
            first_load_seconds=first_seconds,
            seconds_per_run=month_seconds / runs if runs else 0.0,
            first_load=Costs(self.compute(first_seconds, cluster), self._requests(measure.files, listings), Decimal(0)),
            per_month=Costs(
                self.compute(month_seconds, cluster),
                self._requests(measure.recent_files if runs else 0, listings * runs),
                self._storage(measure.size_bytes, format),
            ),
            assumptions=self._assumptions(measure, format, cluster, schedule),
        )

    @property
    def currency(self) -> str:
        return self._rates.currency

    def spent(
        self,
        seconds: float,
        files_read: int,
        bytes_loaded: int,
        format: FormatType,
        cluster: ClusterSize,
        *,
        listings: int,
        known_files: int,
    ) -> Costs:
        """What was done has cost: the time, a read per file, listings of the files known now, and a month of storage for what it loaded."""
        requests = self._requests(files_read, listings * _pages(known_files))
        return Costs(self.compute(seconds, cluster), requests, self._storage(bytes_loaded, format))

    def spending_assumptions(self, format: FormatType, cluster: ClusterSize, known_files: int) -> tuple[str, ...]:
        rates = self._rates
        return (
            f"a {cluster} cluster costs {rates.cluster_per_hour[cluster]} {rates.currency} an hour, from a run's start to its end",
            f"a read for each file, and for each listing of the source the {known_files} files that are known now, 1,000 at a time",
            f"what was loaded is kept for a month; {self._said_of_storage(format)}",
        )

    def runs_per_month(self, schedule: Schedule | None, now: datetime) -> float:
        """Firings of the schedule in a mean month of the year to come, in its time zone; 0 without a schedule."""
        return firings_per_month(schedule, after=now) if schedule else 0.0

    def seconds(self, size_bytes: int, format: FormatType, cluster: ClusterSize, *, runs: float) -> float:
        """How long `runs` runs take for so many bytes of source between them."""
        if not runs:
            return 0.0
        speed = self._rates.megabytes_per_second[format] * 1e6 * self._rates.speed_of_cluster[cluster]
        return size_bytes / speed + runs * self._rates.seconds_per_run

    def compute(self, seconds: float, cluster: ClusterSize) -> Decimal:
        return _money(Decimal(repr(seconds)) / 3600 * self._rates.cluster_per_hour[cluster])

    def _requests(self, reads: int, listings: float) -> Decimal:
        listed = Decimal(repr(listings)) * self._rates.per_thousand_listings
        return _money((reads * self._rates.per_thousand_reads + listed) / 1_000)

    def _storage(self, size_bytes: int, format: FormatType) -> Decimal:
        """A month of the table that so many bytes of source become."""
        gigabytes = size_bytes * self._rates.table_bytes_per_source_byte[format] / 1e9
        return _money(Decimal(repr(gigabytes)) * self._rates.storage_per_gigabyte_month)

    def _said_of_storage(self, format: FormatType) -> str:
        rates = self._rates
        return (
            f"the table takes {rates.table_bytes_per_source_byte[format]:g} bytes for a byte of source, at "
            f"{rates.storage_per_gigabyte_month} {rates.currency} a gigabyte and month"
        )

    def _assumptions(self, measure: SourceMeasure, format: FormatType, cluster: ClusterSize, schedule: Schedule | None) -> tuple[str, ...]:
        rates = self._rates
        speed = rates.megabytes_per_second[format] * rates.speed_of_cluster[cluster]
        said = [
            f"{format} is read at {speed:g} MB a second on a {cluster} cluster, which costs {rates.cluster_per_hour[cluster]} "
            f"{rates.currency} an hour; each run adds {rates.seconds_per_run:g} s",
            f"as much comes each month as {'was loaded ' if measure.from_ledger else ''}in the last 30 days: "
            f"{measure.recent_files} files, {measure.recent_bytes} bytes",
            self._said_of_storage(format),
            "a read for each file, and for each run a listing of every 1,000 files",
        ]
        if measure.from_ledger:
            said.append(f"the source holds what the ledger knows: {measure.files} files, {measure.size_bytes} bytes; it was not listed")
        if schedule is None:
            said.append("there is no schedule: runs by hand cost what the first load would, in proportion to their bytes")
        if not measure.complete:
            said.append(f"counting stopped after {measure.files} files: the true cost is higher")
        return tuple(said)


def _pages(files: int) -> int:
    """Of a listing of so many files; even nothing takes one."""
    return math.ceil(files / OBJECTS_PER_LISTING) or 1


def _money(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT_FRACTION)
