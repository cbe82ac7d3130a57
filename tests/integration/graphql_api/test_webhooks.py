"""Webhooks through the API: made, listed with what was sent to them, tried and deleted; and what is never shown."""

from __future__ import annotations

from typing import Any

import pytest

from domain.notifications.announcing import announce
from domain.notifications.entities import DeliveryStatus, WebhookDelivery
from domain.ports.webhooks import Attempt
from domain.tenants import Role
from persistence.unit_of_work import SqlUnitOfWorkFactory
from tests.factories import NOW, an_event
from tests.fixtures.api import Api, Client
from tests.fixtures.log_lines import LogLines
from tests.integration.graphql_api import documents

FIELDS = "id url description events createdAt lastAttemptAt lastDeliveryStatus consecutiveFailures ingestion { id }"
ERRORS = "... on Error { code message } ... on ValidationError { fields { path message } } ... on ConflictError { reason }"
CREATE = f"""
mutation ($input: CreateWebhookInput!) {{
  createWebhook(input: $input) {{ __typename ... on CreatedWebhook {{ secret webhook {{ {FIELDS} }} }} {ERRORS} }}
}}
"""
DELIVERY = "id event eventId occurredAt status attempts nextAttemptAt lastAttemptAt responseCode error endedAt"
LIST = f"{{ webhooks {{ totalCount nodes {{ {FIELDS} deliveries {{ totalCount nodes {{ {DELIVERY} }} }} }} }} }}"
DELETE = f"mutation ($id: ID!) {{ deleteWebhook(id: $id) {{ __typename ... on Webhook {{ id }} {ERRORS} }} }}"
TEST = f"mutation ($id: ID!) {{ testWebhook(id: $id) {{ __typename ... on WebhookDelivery {{ {DELIVERY} }} {ERRORS} }} }}"
REDELIVER = f"mutation ($id: ID!) {{ redeliverWebhook(id: $id) {{ __typename ... on WebhookDelivery {{ {DELIVERY} }} {ERRORS} }} }}"


async def create(client: Client, **fields: Any) -> dict[str, Any]:
    input = {"url": "https://receiver.example/hook", "events": ["RUN_FAILED"]} | fields
    return dict((await client.data(CREATE, {"input": input}))["createWebhook"])


async def made(client: Client, **fields: Any) -> str:
    return str((await create(client, **fields))["webhook"]["id"])


async def call(client: Client, document: str, id: str) -> dict[str, Any]:
    [answer] = (await client.data(document, {"id": id})).values()
    return dict(answer)


async def test_a_webhook_is_made_and_its_secret_shown_once(api: Api, client: Client, log_lines: LogLines) -> None:
    ingestion = await documents.create(api, client)
    created = await create(client, ingestionId=ingestion["id"], events=["DATA_LATE", "RUN_FAILED", "DATA_LATE"], description="pages")
    webhook, secret = created["webhook"], created["secret"]
    assert webhook == {
        "id": webhook["id"],
        "url": "https://receiver.example/hook",
        "description": "pages",
        "events": ["DATA_LATE", "RUN_FAILED"],
        "createdAt": webhook["createdAt"],
        "lastAttemptAt": None,
        "lastDeliveryStatus": None,
        "consecutiveFailures": 0,
        "ingestion": {"id": ingestion["id"]},
    }
    assert secret.startswith("whsec_")
    listed = await client.data(LIST)
    assert listed["webhooks"] == {"totalCount": 1, "nodes": [webhook | {"deliveries": {"totalCount": 0, "nodes": []}}]}
    node = await client.data("query ($id: ID!) { node(id: $id) { id ... on Webhook { url } } }", {"id": webhook["id"]})
    assert node == {"node": {"id": webhook["id"], "url": "https://receiver.example/hook"}}
    for told in (str(listed), str(node), log_lines.unredacted.getvalue()):
        assert secret not in told
        assert secret.removeprefix("whsec_") not in told
    assert "receiver.example" not in log_lines.unredacted.getvalue()


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"url": "https://internal.example/"}, ["url"], "the host has an address that webhooks may not be sent to"),
        ({"url": "\0"}, ["url"], "must not contain a NUL character"),
        ({"events": []}, ["events"], None),
        ({"events": ["TEST"]}, ["events"], "TEST is sent when somebody asks for it, and to every webhook"),
        ({"description": " "}, ["description"], None),
    ],
)
async def test_a_bad_webhook_names_the_field_and_is_not_made(
    api: Api, client: Client, fields: dict[str, Any], path: list[str], message: str | None
) -> None:
    answer = await create(client, **fields)
    assert (answer["__typename"], [field["path"] for field in answer["fields"]]) == ("ValidationError", [path])
    assert message in (None, answer["fields"][0]["message"])
    assert await api.scalar("SELECT count(*) FROM webhooks") == await api.scalar("SELECT count(*) FROM audit_events") == 0


async def test_an_ingestion_that_is_not_there_or_not_yours_is_refused(api: Api, client: Client) -> None:
    theirs = await documents.create(api, await api.client())
    for id in (theirs["id"], "nonsense", ""):
        answer = await create(client, ingestionId=id)
        assert (answer["code"], answer["message"]) == ("NOT_FOUND", "ingestion not found")


async def test_there_are_only_so_many(client: Client) -> None:
    for _ in range(20):
        await made(client)
    answer = await create(client)
    assert (answer["code"], answer["message"]) == ("LIMIT_EXCEEDED", "there are 20 webhooks, and no more are allowed; delete one first")


async def test_what_was_sent_is_seen_and_can_be_sent_again(api: Api, client: Client, tenant_database: Any) -> None:
    webhook = await made(client)
    unit_of_work = SqlUnitOfWorkFactory(tenant_database)
    async with unit_of_work(client.tenant.id) as tx:
        await announce(tx, an_event())
    delivery = await only_delivery(api, client)
    async with unit_of_work(client.tenant.id) as tx:
        assert await tx.webhooks.record_attempt(delivery, Attempt(NOW, DeliveryStatus.GIVEN_UP, None, 500, "the receiver answers 500"))
    [listed] = (await client.data(LIST))["webhooks"]["nodes"]
    assert (listed["lastDeliveryStatus"], listed["consecutiveFailures"]) == ("GIVEN_UP", 1)
    [told] = listed["deliveries"]["nodes"]
    assert told == {
        "id": told["id"],
        "event": "RUN_FAILED",
        "eventId": str(delivery.event_id),
        "occurredAt": "2026-03-02T12:00:00Z",
        "status": "GIVEN_UP",
        "attempts": 1,
        "nextAttemptAt": None,
        "lastAttemptAt": "2026-03-02T12:00:00Z",
        "responseCode": 500,
        "error": "the receiver answers 500",
        "endedAt": "2026-03-02T12:00:00Z",
    }
    again = await call(client, REDELIVER, told["id"])
    assert (again["__typename"], again["status"], again["attempts"], again["eventId"]) == ("WebhookDelivery", "PENDING", 0, told["eventId"])
    answer = await call(client, REDELIVER, told["id"])
    assert (answer["__typename"], answer["reason"]) == ("ConflictError", "WRONG_STATE")
    assert await api.scalar("SELECT count(*) FROM outbox WHERE topic = 'DELIVERY'") == 1
    trail = await client.data("{ auditEvents { nodes { operation subjectId } } }")
    assert trail["auditEvents"]["nodes"] == [
        {"operation": "redeliverWebhook", "subjectId": told["id"]},
        {"operation": "createWebhook", "subjectId": webhook},
    ]


async def only_delivery(api: Api, client: Client) -> WebhookDelivery:
    [id] = await ids_of(api, "webhook_deliveries")
    (found,) = await api.services.reader(client.tenant.id).by_ids(WebhookDelivery, [id])
    assert found is not None
    return found


async def ids_of(api: Api, table: str) -> list[Any]:
    from sqlalchemy import text

    async with api.database.connect() as connection:
        return list((await connection.scalars(text(f"SELECT id FROM {table}"))).all())


async def test_a_webhook_is_tried_whatever_it_asks_for(api: Api, client: Client) -> None:
    webhook = await made(client, events=["DATA_LATE"])
    queued = await call(client, TEST, webhook)
    assert (queued["__typename"], queued["event"], queued["status"]) == ("WebhookDelivery", "TEST", "PENDING")
    assert await api.scalar("SELECT count(*) FROM outbox WHERE topic = 'DELIVERY'") == 1


async def test_a_deleted_webhook_is_gone_with_its_deliveries(api: Api, client: Client) -> None:
    webhook = await made(client)
    await call(client, TEST, webhook)
    assert await call(client, DELETE, webhook) == {"__typename": "Webhook", "id": webhook}
    assert (await client.data(LIST))["webhooks"]["nodes"] == []
    assert await ids_of(api, "webhook_deliveries") == []
    assert (await call(client, DELETE, webhook))["message"] == "webhook not found"


async def test_another_tenants_webhook_is_like_none(api: Api, client: Client) -> None:
    other = await api.client()
    webhook = await made(other)
    delivery = await call(other, TEST, webhook)
    for document, id, kind in ((DELETE, webhook, "webhook"), (TEST, webhook, "webhook"), (REDELIVER, delivery["id"], "delivery")):
        answer = await call(client, document, id)
        assert (answer["__typename"], answer["message"]) == ("NotFoundError", f"{kind} not found")
    assert (await client.data(LIST))["webhooks"]["totalCount"] == 0
    assert (await other.data(LIST))["webhooks"]["nodes"][0]["deliveries"]["totalCount"] == 1


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_only_admins_see_or_change_webhooks(api: Api, client: Client, role: Role) -> None:
    webhook = await made(client)
    delivery = await call(client, TEST, webhook)
    other = await api.client(role=role, tenant=client.tenant)
    assert (await create(other))["code"] == "FORBIDDEN"
    for document, id in ((DELETE, webhook), (TEST, webhook), (REDELIVER, delivery["id"])):
        assert (await call(other, document, id))["code"] == "FORBIDDEN"
    for document in (LIST, f'{{ node(id: "{webhook}") {{ id }} }}', f'{{ node(id: "{delivery["id"]}") {{ id }} }}'):
        assert [error["extensions"]["code"] for error in (await other.send(document)).errors] == ["FORBIDDEN"]
