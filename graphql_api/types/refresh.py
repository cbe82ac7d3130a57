"""What a refresh would do, and the run that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import strawberry

from domain.ingestions import refresh
from domain.runs.entities import RefreshMode
from graphql_api.types.resolved import resolved_from
from graphql_api.types.scalars import BigInt

if TYPE_CHECKING:
    from graphql_api.types.run import Run

_Run = Annotated["Run", strawberry.lazy("graphql_api.types.run")]


@strawberry.type(description="What a refresh does to things as they are.")
class RefreshPlan:
    mode: RefreshMode = strawberry.field(description="What is loaded again once the table is gone.")
    table_exists: bool = strawberry.field(description="Whether there is a table of this ingestion to drop.")
    rows_dropped: BigInt = strawberry.field(description="Rows that go with the table.")
    files_forgotten: BigInt = strawberry.field(description="Files that the ledger forgets, to be found anew.")
    files_absent: BigInt = strawberry.field(description="Files that stay known as loaded, and are not in the new table.")
    files_waiting: BigInt = strawberry.field(description="Known files that are not loaded yet, and will be.")
    generation: int = strawberry.field(description="The ingestion's generation afterwards.")


@strawberry.type(description="A refresh, planned or queued.")
@resolved_from(refresh.RefreshOutcome)
class Refresh:
    plan: RefreshPlan = strawberry.field(description="What it does, as things were when it was asked for.")
    run: _Run | None = strawberry.field(description="The run that does it; null for a dry run.")
