"""How the components are."""

from __future__ import annotations

import strawberry

from domain import system
from domain.system import ComponentStatus
from graphql_api.types.resolved import resolved_from


@strawberry.type(description="Something that the service needs.")
@resolved_from(system.Component)
class Component:
    name: str = strawberry.field(description="Which: database, engine, spark (where it is configured) or orchestrator.")
    status: ComponentStatus = strawberry.field(description="Whether it answers.")
    version: str | None = strawberry.field(description="What it says it is; null when it does not answer.")
    latency_seconds: float = strawberry.field(description="How long the answer took.")
    message: str | None = strawberry.field(description="What is wrong; null when nothing is.")


@strawberry.type(description="How the components are, asked just now.")
class System:
    components: list[Component] = strawberry.field(description="Each component.")
