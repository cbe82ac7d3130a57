"""What is refused over HTTP is refused in streams too: by document, role, cost and rate."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette

from domain.tenants import Role
from graphql_api.limits.limits import Limits
from graphql_api.limits.manifest import id_of
from graphql_api.limits.rate import CostRate
from tests.fixtures.api import Api, Client
from tests.fixtures.limited import app_with
from tests.fixtures.streams import events, socket

FOLLOW = "subscription { activity { __typename } }"
EXPENSIVE = "subscription { activity { ingestion { runs(first: 100) { nodes { files(first: 100) { nodes { id } } } } } } }"
REFUSED = {
    "no document": ("subscription {", Limits(), None),
    "no field": ("subscription { nothing }", Limits(), None),
    "too many fields": ("subscription { activity {" + " __typename" * 600 + " } }", Limits(), "LIMIT_EXCEEDED"),
    "the role": (FOLLOW, Limits(free_documents_role=Role.ADMIN), "FORBIDDEN"),
    "the cost": (EXPENSIVE, Limits(operation_cost=100), "LIMIT_EXCEEDED"),
    "the rate": (EXPENSIVE, Limits(rate=CostRate(1, 100, lambda: 0.0)), "LIMIT_EXCEEDED"),
}


async def errors_by_socket(app: Starlette, client: Client, document: str) -> Any:
    async with socket(app) as opened:
        assert await opened.init({"authorization": f"Bearer {client.key}"}) == {"type": "connection_ack"}
        opened.subscribe(document)
        message = await opened.receive()
        assert message["type"] == "error", message
        return message["payload"]


async def errors_by_events(app: Starlette, client: Client, document: str) -> Any:
    async with events(app, document, authorization=f"Bearer {client.key}") as stream:
        event = await stream.receive()
        assert event is not None
        assert event[0] == "next"
        return event[1]["errors"]


@pytest.mark.parametrize("ask", [errors_by_socket, errors_by_events])
@pytest.mark.parametrize(("document", "limits", "code"), REFUSED.values(), ids=REFUSED)
async def test_a_stream_is_refused_before_it_begins(api: Api, ask: Any, document: str, limits: Limits, code: str | None) -> None:
    client, app = await api.client(role=Role.VIEWER), app_with(api, limits)
    limits.rate.take(client.tenant.id, 50)
    errors = await ask(app, client, document)
    assert [error.get("extensions", {}).get("code") for error in errors] == [code]


async def test_a_persisted_document_can_be_followed(api: Api) -> None:
    client = await api.client(role=Role.VIEWER)
    app = app_with(api, Limits(documents={id_of(FOLLOW): FOLLOW}, free_documents_role=Role.ADMIN))
    async with socket(app) as opened:
        await opened.init({"authorization": f"Bearer {client.key}"})
        opened.send({"type": "subscribe", "id": "1", "payload": {"documentId": id_of(FOLLOW)}})
        await api.notifications.quiet()
        opened.send({"type": "subscribe", "id": "2", "payload": {"documentId": "nothing"}})
        [error] = (await opened.receive())["payload"]
        assert error["extensions"]["code"] == "NOT_FOUND"
        opened.send({"type": "subscribe", "id": "3", "payload": {"documentId": 3}})
        assert await opened.receive() == {"close": 4400, "reason": "This is no message of graphql-transport-ws."}
