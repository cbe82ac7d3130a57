"""Webhooks as their tenant's ADMINs see them: everything but the secret, which only the answer to createWebhook has."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from domain import relations
from domain.ingestions import entities as ingestion_entities
from domain.notifications import entities, service
from domain.notifications.entities import DeliveryStatus, WebhookEvent
from domain.runs import entities as run_entities
from graphql_api.context import Info
from graphql_api.limits.cost_directive import COUNTED
from graphql_api.relay.connections import After, ConnectionPage, First, PageInfo, connect, total_count
from graphql_api.relay.node import Node
from graphql_api.types.resolved import resolved_from

if TYPE_CHECKING:
    from graphql_api.types.ingestion import Ingestion
    from graphql_api.types.run import Run

_Ingestion = Annotated["Ingestion", strawberry.lazy("graphql_api.types.ingestion")]
_Run = Annotated["Run", strawberry.lazy("graphql_api.types.run")]


@strawberry.type(description="One event on its way to one webhook.")
@resolved_from(entities.WebhookDelivery)
class WebhookDelivery(Node):
    event: WebhookEvent = strawberry.field(description="What has happened.")
    event_id: strawberry.ID = strawberry.field(
        description="What the header `webhook-id` says: the same in every try, for every webhook that is told. No id for `node(id:)`."
    )
    occurred_at: datetime = strawberry.field(description="When it happened.")
    status: DeliveryStatus = strawberry.field(description="Where it is.")
    attempts: int = strawberry.field(description="How often it has been tried.")
    next_attempt_at: datetime | None = strawberry.field(description="When it is tried next, at the earliest; null once it has ended.")
    last_attempt_at: datetime | None = strawberry.field(description="When it was tried last.")
    response_code: int | None = strawberry.field(description="The status of the last try's answer; null when there was none.")
    error: str | None = strawberry.field(description="Why the last try has failed.")
    created_at: datetime = strawberry.field(description="Since when it is on its way.")
    ended_at: datetime | None = strawberry.field(description="When it was delivered or given up. 30 days later it is forgotten.")

    @strawberry.field(graphql_type=_Ingestion | None, description="The ingestion that it is about; null without one, or when it is gone.")
    @staticmethod
    async def ingestion(root: strawberry.Parent[entities.WebhookDelivery], info: Info) -> ingestion_entities.Ingestion | None:
        return await info.context.loaders.node(ingestion_entities.Ingestion, root.ingestion_id)

    @strawberry.field(graphql_type=_Run | None, description="The run that it is about; null without one, or when it is gone.")
    @staticmethod
    async def run(root: strawberry.Parent[entities.WebhookDelivery], info: Info) -> run_entities.Run | None:
        return await info.context.loaders.node(run_entities.Run, root.run_id)


@strawberry.type(description="A delivery in a connection.")
class WebhookDeliveryEdge:
    cursor: str = strawberry.field(description="Its place, for `after`.")
    node: WebhookDelivery = strawberry.field(description="The delivery.")


@strawberry.type(description="A page of deliveries.")
@resolved_from(ConnectionPage)
class WebhookDeliveryConnection:
    edges: list[WebhookDeliveryEdge] = strawberry.field(description="The page's deliveries with their cursors.")
    nodes: list[WebhookDelivery] = strawberry.field(description="The page's deliveries.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(resolver=total_count, directives=(COUNTED,), description="How many there are, on all pages.")


@strawberry.type(description="A URL of yours that is told what happens.")
@resolved_from(entities.Webhook)
class Webhook(Node):
    url: str = strawberry.field(description="Where events are sent, by POST.")
    description: str | None = strawberry.field(description="What it is for.")
    events: list[WebhookEvent] = strawberry.field(description="What it is told of.")
    created_at: datetime = strawberry.field(description="When it was created.")
    last_attempt_at: datetime | None = strawberry.field(description="When something was sent to it last; null before the first time.")
    last_delivery_status: DeliveryStatus | None = strawberry.field(
        description="What became of the delivery that was tried last: PENDING when that failed and it is tried again."
    )
    consecutive_failures: int = strawberry.field(description="How many tries have failed since one succeeded.")

    @strawberry.field(graphql_type=_Ingestion | None, description="The only ingestion that it is told of; null for all.")
    @staticmethod
    async def ingestion(root: strawberry.Parent[entities.Webhook], info: Info) -> ingestion_entities.Ingestion | None:
        return await info.context.loaders.node(ingestion_entities.Ingestion, root.ingestion_id)

    @strawberry.field(graphql_type=WebhookDeliveryConnection, description="What is and was on its way to it, the newest first.")
    @staticmethod
    async def deliveries(
        root: strawberry.Parent[entities.Webhook], info: Info, first: First = None, after: After = None
    ) -> ConnectionPage[entities.WebhookDelivery]:
        return await connect(info, relations.WEBHOOK_DELIVERIES, root.id, first=first, after=after)


@strawberry.type(description="A webhook, and its signing secret, which is shown now and never again.")
@resolved_from(service.CreatedWebhook)
class CreatedWebhook:
    webhook: Webhook = strawberry.field(description="The webhook.")
    secret: str = strawberry.field(description="`whsec_...`: with it the receiver verifies signatures, as Standard Webhooks says.")


@strawberry.type(description="A webhook in a connection.")
class WebhookEdge:
    cursor: str = strawberry.field(description="Its place, for `after`.")
    node: Webhook = strawberry.field(description="The webhook.")


@strawberry.type(description="A page of webhooks.")
@resolved_from(ConnectionPage)
class WebhookConnection:
    edges: list[WebhookEdge] = strawberry.field(description="The page's webhooks with their cursors.")
    nodes: list[Webhook] = strawberry.field(description="The page's webhooks.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(resolver=total_count, directives=(COUNTED,), description="How many there are, on all pages.")
