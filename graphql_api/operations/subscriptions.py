"""What can be followed. A resolver checks what it is asked, and gives pages of values for as long as the client listens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated
from uuid import UUID

import strawberry

from domain.activity import entities
from domain.errors import NotFoundError
from domain.ingestions import entities as ingestion_entities
from domain.runs import entities as run_entities
from domain.tenants import Role
from graphql_api.context import Info
from graphql_api.operations.authorization import followed
from graphql_api.relay.ids import decode_id
from graphql_api.types.activity import ActivityEvent, place_of
from graphql_api.types.run import Run


@strawberry.type(description="What can be followed, over a WebSocket (graphql-transport-ws) or as server-sent events.")
class Subscription:
    @followed(
        Run,
        role=Role.VIEWER,
        description="A run as it is, and again whenever it has changed; complete when it has ended. Changes that follow each other "
        "quickly are told as one.",
    )
    @staticmethod
    async def run_updated(
        info: Info, run_id: Annotated[strawberry.ID, strawberry.argument(description="The run's id.")]
    ) -> AsyncGenerator[Sequence[run_entities.Run], None]:
        key = decode_id(run_entities.Run, run_id)
        if not isinstance(key, UUID):
            raise NotFoundError("run")
        return _alone(await info.context.services.activity.run(info.context.principal.tenant.id, key))

    @followed(
        ActivityEvent,
        role=Role.VIEWER,
        description="What happens in your tenant, event by event, from now on or from a place; each event once, in one order.",
    )
    @staticmethod
    async def activity(
        info: Info,
        ingestion_id: Annotated[strawberry.ID | None, strawberry.argument(description="Only what happens to this ingestion.")] = None,
        after: Annotated[
            str | None,
            strawberry.argument(description="The cursor of the last event that you have had, of the past 7 days: go on behind it."),
        ] = None,
    ) -> AsyncGenerator[Sequence[entities.ActivityEvent], None]:
        of_ingestion = None
        if ingestion_id is not None:
            key = decode_id(ingestion_entities.Ingestion, ingestion_id)
            if not isinstance(key, UUID):
                raise NotFoundError("ingestion")
            of_ingestion = key
        place = None if after is None else place_of(after)
        return await info.context.services.activity.activity(info.context.principal.tenant.id, ingestion_id=of_ingestion, after=place)


async def _alone(runs: AsyncGenerator[run_entities.Run, None]) -> AsyncGenerator[Sequence[run_entities.Run], None]:
    async with aclosing(runs):
        async for run in runs:
            yield [run]
