"""Webhooks: created, listed, tried and deleted. For ADMINs alone, the reads too: a URL may hold a token."""

from __future__ import annotations

from typing import Annotated

import strawberry

from domain import relations
from domain.ingestions.entities import Ingestion
from domain.notifications import entities, service
from domain.notifications.entities import WebhookEvent
from domain.notifications.service import WebhookCreate
from domain.tenants import Role
from graphql_api.context import Info
from graphql_api.limits.cost_directive import LOOKS_AT_THE_STORE, WRITES
from graphql_api.operations.authorization import guarded
from graphql_api.operations.inputs import given, without_nulls
from graphql_api.relay.connections import After, ConnectionPage, First, connect
from graphql_api.relay.ids import required_key
from graphql_api.types.errors import result_union
from graphql_api.types.webhook import CreatedWebhook, Webhook, WebhookConnection, WebhookDelivery

CreateWebhookResult = result_union("CreateWebhookResult", CreatedWebhook)
DeleteWebhookResult = result_union("DeleteWebhookResult", Webhook)
TestWebhookResult = result_union("TestWebhookResult", WebhookDelivery)
RedeliverWebhookResult = result_union("RedeliverWebhookResult", WebhookDelivery)

_WebhookId = Annotated[strawberry.ID, strawberry.argument(description="The webhook's id.")]


@strawberry.input(description="A new webhook.")
class CreateWebhookInput:
    url: str = strawberry.field(description="Where events are sent: an https URL of a public host, at port 443 or one from 1024 on.")
    events: list[WebhookEvent] = strawberry.field(description="What it is told of.")
    ingestion_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="The only ingestion that it is told of, and with which it goes; all unless given."
    )
    description: str | None = strawberry.field(default=strawberry.UNSET, description="What it is for.")


@strawberry.type
class WebhookQueries:
    @guarded(WebhookConnection, role=Role.ADMIN, description="Your tenant's webhooks, the newest first.")
    @staticmethod
    async def webhooks(info: Info, first: First = None, after: After = None) -> ConnectionPage[entities.Webhook]:
        return await connect(info, relations.WEBHOOKS, None, first=first, after=after)


@strawberry.type
class WebhookMutations:
    @guarded(
        CreateWebhookResult,
        role=Role.ADMIN,
        cost=LOOKS_AT_THE_STORE,
        description="Have a URL told what happens. Its signing secret is in the answer, and nowhere else.",
    )
    @staticmethod
    async def create_webhook(
        info: Info, input: Annotated[CreateWebhookInput, strawberry.argument(description="The new webhook.")]
    ) -> service.CreatedWebhook:
        values = without_nulls(given(input))
        if "ingestion_id" in values:
            values["ingestion_id"] = required_key(Ingestion, values["ingestion_id"], "ingestion")
        return await info.context.services.webhooks.create(info.context.principal, WebhookCreate.parse(values))

    @guarded(
        DeleteWebhookResult,
        role=Role.ADMIN,
        cost=WRITES,
        description="From now on it is told of nothing, and what was on its way to it is forgotten.",
    )
    @staticmethod
    async def delete_webhook(info: Info, id: _WebhookId) -> entities.Webhook:
        return await info.context.services.webhooks.delete(info.context.principal, required_key(entities.Webhook, id, "webhook"))

    @guarded(TestWebhookResult, role=Role.ADMIN, cost=WRITES, description="Send a TEST event to a webhook.")
    @staticmethod
    async def test_webhook(info: Info, id: _WebhookId) -> entities.WebhookDelivery:
        return await info.context.services.webhooks.test(info.context.principal, required_key(entities.Webhook, id, "webhook"))

    @guarded(
        RedeliverWebhookResult,
        role=Role.ADMIN,
        cost=WRITES,
        description="Send an event once more, delivered or given up, under the same event id.",
    )
    @staticmethod
    async def redeliver_webhook(
        info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The delivery's id.")]
    ) -> entities.WebhookDelivery:
        key = required_key(entities.WebhookDelivery, id, "delivery")
        return await info.context.services.webhooks.redeliver(info.context.principal, key)
