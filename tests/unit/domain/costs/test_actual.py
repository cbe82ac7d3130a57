"""What runs have cost, figure by figure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from domain.costs.actual import LONGEST_RANGE, actual_cost, cost_range, measured_by_ledger
from domain.costs.estimator import Costs
from domain.errors import ValidationError
from domain.ingestions.entities import ClusterSize, Execution, FormatType
from domain.ledger.entities import FileStatus
from domain.ledger.stats import FileCount, IngestionStats
from domain.runs.entities import RunStatus
from domain.runs.totals import RunTotals
from tests.factories import NOW, a_run, an_ingestion
from tests.unit.domain.costs.test_estimator import HOURLY, estimator


def stats_of(files: int, size_bytes: int = 0) -> IngestionStats:
    return IngestionStats.of([FileCount(FileStatus.SUCCESS, files, size_bytes)], oldest_waiting_at=None, last_success_at=None)


def test_time_requests_and_a_month_of_storage_are_paid_for() -> None:
    totals = RunTotals(runs=3, seconds=2_000.0, listings=2, files_read=5_000, files_loaded=4_000, bytes_loaded=10_000_000_000)
    cost = actual_cost(estimator(), an_ingestion(), totals, stats_of(2_500))
    # 0.001 a second; 5,000 reads at 0.4 a thousand and two listings of three pages at 5 a thousand; 5 GB of table at 0.02.
    assert cost.costs == Costs(Decimal("2.000000"), Decimal("2.030000"), Decimal("0.100000"))
    assert (cost.runs, cost.seconds, cost.currency) == (3, 2_000.0, "USD")
    assert cost.assumptions == (
        "a SMALL cluster costs 3.6 USD an hour, from a run's start to its end",
        "a read for each file, and for each listing of the source the 2500 files that are known now, 1,000 at a time",
        "what was loaded is kept for a month; the table takes 0.5 bytes for a byte of source, at 0.02 USD a gigabyte and month",
    )


def test_the_clusters_size_makes_the_price() -> None:
    ingestion = an_ingestion(execution=Execution(cluster_size=ClusterSize.LARGE))
    assert actual_cost(estimator(), ingestion, RunTotals(1, 100.0), stats_of(0)).costs.compute == Decimal("1.000000")


def test_the_cost_of_several_runs_is_the_sum_of_each() -> None:
    ended = {"status": RunStatus.SUCCESS, "started_at": NOW, "ended_at": NOW}
    different = [{}, {"files_failed": 1_000}, {"listings": 2, "bytes_processed": 10**9}, {"files_skipped": 9}]
    runs = [a_run(duration_seconds=100.0 * n, files_processed=1_000 * n, **ended, **fields) for n, fields in enumerate(different)]
    ingestion, stats = an_ingestion(), stats_of(5_000)
    each = [actual_cost(estimator(), ingestion, RunTotals.of(run), stats) for run in runs]
    together = actual_cost(estimator(), ingestion, sum((RunTotals.of(run) for run in runs), RunTotals()), stats)
    assert together.runs == sum(cost.runs for cost in each) == 4
    assert together.costs.total == sum(cost.costs.total for cost in each)


def test_a_run_that_has_not_ended_has_cost_nothing() -> None:
    cost = actual_cost(estimator(), an_ingestion(), RunTotals.of(a_run(started_at=NOW, files_processed=10)), stats_of(5_000))
    assert (cost.runs, cost.costs.total) == (0, 0)


def test_the_range_is_the_last_thirty_days_unless_told() -> None:
    month, day = timedelta(days=30), timedelta(days=1)
    assert cost_range(None, None, now=NOW) == (NOW - month, NOW)
    assert cost_range(None, NOW - day, now=NOW) == (NOW - day - month, NOW - day)
    assert cost_range(NOW - day, None, now=NOW) == (NOW - day, NOW)
    assert cost_range(NOW - LONGEST_RANGE, NOW, now=NOW) == (NOW - LONGEST_RANGE, NOW)
    first = datetime(1, 1, 1, tzinfo=UTC)
    assert cost_range(None, first, now=NOW) == (first, first)


@pytest.mark.parametrize(
    ("since", "until"),
    [(NOW, NOW - timedelta(seconds=1)), (NOW - LONGEST_RANGE - timedelta(seconds=1), NOW), (NOW + timedelta(days=1), None)],
)
def test_a_range_that_is_none_or_too_long_is_refused(since: datetime, until: datetime | None) -> None:
    with pytest.raises(ValidationError) as caught:
        cost_range(since, until, now=NOW)
    assert [field.path for field in caught.value.fields] == [("since",)]


def test_the_ledgers_measure_says_that_it_is_the_ledgers() -> None:
    assert measured_by_ledger(stats_of(0), RunTotals()) is None
    measure = measured_by_ledger(stats_of(2_500, 100_000_000_000), RunTotals(9, files_loaded=500, bytes_loaded=10_000_000_000))
    assert measure is not None
    estimate = estimator().estimate(measure, FormatType.JSON, ClusterSize.SMALL, HOURLY, now=NOW)
    assert (estimate.measure.files, estimate.measure.recent_bytes) == (2_500, 10_000_000_000)
    assert "as much comes each month as was loaded in the last 30 days: 500 files, 10000000000 bytes" in estimate.assumptions
    assert "the source holds what the ledger knows: 2500 files, 100000000000 bytes; it was not listed" in estimate.assumptions
