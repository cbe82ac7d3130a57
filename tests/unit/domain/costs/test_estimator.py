"""The estimate's formula, figure by figure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from domain.costs.estimator import CostEstimator, Costs, SourceMeasure
from domain.costs.rates import CostRates
from domain.ingestions.entities import ClusterSize, FormatType, Schedule

NOW = datetime(2026, 2, 5, tzinfo=UTC)
RATES = replace(
    CostRates(),
    megabytes_per_second={FormatType.JSON: 10.0, FormatType.PARQUET: 100.0},
    table_bytes_per_source_byte={FormatType.JSON: 0.5, FormatType.PARQUET: 1.0},
    speed_of_cluster={ClusterSize.SMALL: 1.0, ClusterSize.LARGE: 10.0},
    cluster_per_hour={ClusterSize.SMALL: Decimal("3.6"), ClusterSize.LARGE: Decimal(36)},
    seconds_per_run=2.0,
    storage_per_gigabyte_month=Decimal("0.02"),
    per_thousand_reads=Decimal("0.4"),
    per_thousand_listings=Decimal(5),
)
MEASURE = SourceMeasure(files=2_500, size_bytes=100_000_000_000, recent_files=500, recent_bytes=10_000_000_000)
HOURLY = Schedule("0 * * * *")


def estimator() -> CostEstimator:
    return CostEstimator(RATES)


@pytest.mark.scenario(44)
def test_compute_is_time_times_the_clusters_price() -> None:
    estimate = estimator().estimate(MEASURE, FormatType.JSON, ClusterSize.SMALL, HOURLY, now=NOW)
    # 100 GB at 10 MB/s are 10,000 s, and one run's 2 s; 3.6 an hour is 0.001 a second.
    assert estimate.first_load_seconds == 10_002.0
    # Three pages of listing and 2,500 reads.
    assert estimate.first_load == Costs(Decimal("10.002000"), Decimal("1.015000"), Decimal(0))
    # 730 runs of 2 s, and 10 GB; 500 reads and 730 listings of three pages; 50 GB of table.
    assert estimate.runs_per_month == 730.0
    assert estimate.per_month == Costs(Decimal("2.460000"), Decimal("11.150000"), Decimal("1.000000"))
    assert estimate.per_month.total == Decimal("14.610000")
    assert estimate.seconds_per_run == pytest.approx(2_460 / 730)


@pytest.mark.scenario(44)
def test_a_faster_cluster_takes_less_time_at_its_price() -> None:
    estimate = estimator().estimate(MEASURE, FormatType.JSON, ClusterSize.LARGE, None, now=NOW)
    assert estimate.first_load_seconds == 1_002.0
    assert estimate.first_load.compute == Decimal("10.020000")


@pytest.mark.scenario(45)
@pytest.mark.parametrize(
    ("cron", "timezone", "runs"),
    [
        ("*/5 * * * *", "UTC", 365 * 288 / 12),
        ("0 3 * * *", "UTC", 365 / 12),
        ("0 3 * * 1", "UTC", 52 / 12),
        ("0 0 31 * *", "UTC", 7 / 12),
        # The hour that is skipped in March, and the one that comes twice in October.
        ("*/15 * * * *", "Europe/Berlin", 365 * 96 / 12),
        ("0 0 29 2 *", "UTC", 0.0),
    ],
)
def test_runs_per_month_follow_the_schedule(cron: str, timezone: str, runs: float) -> None:
    assert estimator().runs_per_month(Schedule(cron, timezone), NOW) == pytest.approx(runs)


@pytest.mark.scenario(45)
def test_without_a_schedule_there_are_no_runs_and_only_storage_goes_on() -> None:
    estimate = estimator().estimate(MEASURE, FormatType.JSON, ClusterSize.SMALL, None, now=NOW)
    assert (estimate.runs_per_month, estimate.seconds_per_run) == (0.0, 0.0)
    assert estimate.per_month == Costs(Decimal(0), Decimal(0), Decimal("1.000000"))
    assert any("no schedule" in assumption for assumption in estimate.assumptions)


@pytest.mark.scenario(46)
def test_processing_time_depends_on_the_format() -> None:
    json, parquet = (
        estimator().estimate(MEASURE, format, ClusterSize.SMALL, None, now=NOW) for format in (FormatType.JSON, FormatType.PARQUET)
    )
    assert (json.first_load_seconds, parquet.first_load_seconds) == (10_002.0, 1_002.0)
    assert (json.per_month.storage, parquet.per_month.storage) == (Decimal("1.000000"), Decimal("2.000000"))


def test_an_incomplete_count_is_said() -> None:
    estimate = estimator().estimate(replace(MEASURE, complete=False), FormatType.JSON, ClusterSize.SMALL, None, now=NOW)
    assert estimate.assumptions[-1] == "counting stopped after 2500 files: the true cost is higher"


def test_an_empty_source_costs_a_listing_per_run() -> None:
    estimate = estimator().estimate(SourceMeasure(0, 0, 0, 0), FormatType.JSON, ClusterSize.SMALL, HOURLY, now=NOW)
    assert estimate.first_load == Costs(Decimal("0.002000"), Decimal("0.005000"), Decimal(0))
    assert estimate.per_month == Costs(Decimal("1.460000"), Decimal("3.650000"), Decimal(0))
