"""What a look at a source gives."""

from __future__ import annotations

import strawberry
from strawberry.scalars import JSON

from domain.costs import actual, estimator
from domain.ports import engine
from graphql_api.types.resolved import resolved_from
from graphql_api.types.scalars import BigInt
from graphql_api.types.schema_version import Column


@strawberry.type(description="What the first files of a source would give. Nothing is stored.")
@resolved_from(engine.Preview)
class Preview:
    rows: list[JSON] = strawberry.field(description="The first rows, an object each.")

    @strawberry.field(graphql_type=list[Column], description="The columns that a new table would get.")
    @staticmethod
    def columns(root: strawberry.Parent[engine.Preview]) -> list[engine.Column]:
        return list(root.schema.columns)


@strawberry.type(description="What something costs, by what it is paid for.")
class Costs:
    compute: float = strawberry.field(description="The cluster's time.")
    requests: float = strawberry.field(description="Reads and listings of the store.")
    storage: float = strawberry.field(description="The table's bytes.")
    total: float = strawberry.field(description="The sum.")


@strawberry.type(description="What lies at a source: as listed, or as far as the ledger knows.")
class SourceMeasure:
    files: BigInt = strawberry.field(description="Files that pass the filters.")
    size_bytes: BigInt = strawberry.field(description="Their size.")
    recent_files: BigInt = strawberry.field(description="Of these, modified in the last 30 days; by the ledger: loaded in them.")
    recent_bytes: BigInt = strawberry.field(description="The size of those.")
    complete: bool = strawberry.field(description="False when there are more than were counted.")
    from_ledger: bool = strawberry.field(description="True when the ledger was asked, and the source not listed.")


@strawberry.type(description="What an ingestion will cost, from what lies at its source.")
@resolved_from(estimator.CostEstimate)
class CostEstimate:
    currency: str = strawberry.field(description="The currency of all amounts, by its ISO 4217 code.")
    measure: SourceMeasure = strawberry.field(description="What was counted.")
    runs_per_month: float = strawberry.field(description="Firings of the schedule in a mean month of the year to come.")
    first_load_seconds: float = strawberry.field(description="How long loading all that lies there takes.")
    seconds_per_run: float = strawberry.field(description="How long a scheduled run takes after that.")
    first_load: Costs = strawberry.field(description="What loading all that lies there costs, once.")
    per_month: Costs = strawberry.field(description="What goes on after that, each month.")
    assumptions: list[str] = strawberry.field(description="What was taken for granted.")


@strawberry.type(description="What runs have cost: their time, their requests, and a month of storage for what they have loaded.")
@resolved_from(actual.ActualCost)
class ActualCost:
    currency: str = strawberry.field(description="The currency of all amounts, by its ISO 4217 code.")
    runs: BigInt = strawberry.field(description="Ended runs that were summed.")
    seconds: float = strawberry.field(description="How long they took between them.")
    costs: Costs = strawberry.field(description="What they have cost.")
    assumptions: list[str] = strawberry.field(description="What was taken for granted.")
