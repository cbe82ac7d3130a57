"""What runs have cost: the rates over what they did, and every assumption of it said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.costs.estimator import CostEstimator, Costs, SourceMeasure
from domain.errors import ValidationError
from domain.ingestions.entities import Ingestion
from domain.ledger.stats import IngestionStats
from domain.runs.totals import RunTotals

USUAL_RANGE = timedelta(days=30)
LONGEST_RANGE = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class ActualCost:
    """Of `runs` ended runs, which took `seconds` between them."""

    currency: str
    runs: int
    seconds: float
    costs: Costs
    assumptions: tuple[str, ...]


def cost_range(since: datetime | None, until: datetime | None, *, now: datetime) -> tuple[datetime, datetime]:
    """The range that is meant: until now and since 30 days before its end, unless told. Raises `ValidationError`."""
    end = now if until is None else until
    if since is None:
        # The first moments of all have none before them.
        return (end - USUAL_RANGE if end.year > 1 else end), end
    if since > end:
        raise ValidationError.of("since", message="must not be after the end of the range")
    if end - since > LONGEST_RANGE:
        raise ValidationError.of("since", message=f"the range may have {LONGEST_RANGE.days} days at most")
    return since, end


def actual_cost(estimator: CostEstimator, ingestion: Ingestion, totals: RunTotals, stats: IngestionStats) -> ActualCost:
    """What runs of the ingestion have cost. That of several is the sum of that of each."""
    format, cluster = ingestion.format.type, ingestion.execution.cluster_size
    costs = estimator.spent(
        totals.seconds, totals.files_read, totals.bytes_loaded, format, cluster, listings=totals.listings, known_files=stats.files
    )
    return ActualCost(estimator.currency, totals.runs, totals.seconds, costs, estimator.spending_assumptions(format, cluster, stats.files))


def measured_by_ledger(stats: IngestionStats, recent: RunTotals) -> SourceMeasure | None:
    """What lies at the source as far as the ledger knows; None when it knows nothing. `recent` are the runs of the last 30 days."""
    if not stats.files:
        return None
    return SourceMeasure(stats.files, stats.size_bytes, recent.files_loaded, recent.bytes_loaded, from_ledger=True)
