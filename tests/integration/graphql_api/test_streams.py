"""The two protocols of subscriptions: who gets in, what is refused, what is bounded, and how it ends."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from strawberry.http.streaming import SSETransport

from domain.activity.entities import ActivityKind
from domain.activity.feed import ActivityFeed
from domain.runs.entities import Run, RunMetrics
from domain.tenants import Role
from graphql_api.app import create_app
from graphql_api.http import RESPONSE_TYPE, STREAMS
from graphql_api.streams.open_streams import OpenStreams, StreamLimits
from graphql_api.streams.server_sent_events import Events
from graphql_api.streams.web_sockets import MAX_MESSAGE_BYTES
from persistence.activity import SqlActivityLog
from persistence.database import open_database
from persistence.listening import SqlNotifications
from persistence.reader import SqlReader
from persistence.row_security import TENANT_ROLE
from tests.fixtures.api import Api, Client
from tests.fixtures.statements import Statements
from tests.fixtures.streams import Watched, events, handshake, socket
from tests.integration.graphql_api.documents import create
from tests.integration.graphql_api.test_subscriptions import ACTIVITY, key_of, queue, transaction

ACK = {"type": "connection_ack"}


def bearer(client: Client) -> str:
    return f"Bearer {client.key}"


def limited(api: Api, **limits: Any) -> None:
    api.services.streams.limits = StreamLimits(**limits)


@pytest.mark.parametrize("name", ["authorization", "Authorization"])
async def test_a_socket_is_let_in_by_its_payload(api: Api, client: Client, name: str) -> None:
    async with socket(api.app) as connected:
        assert await connected.init({name: bearer(client)}) == ACK


async def test_a_socket_is_let_in_by_its_header(api: Api, client: Client) -> None:
    async with socket(api.app, authorization=bearer(client)) as connected:
        assert await connected.init() == ACK
    async with socket(api.app, authorization=bearer(client)) as connected:
        connected.send({"type": "connection_init", "payload": None})
        assert await connected.receive() == ACK


@pytest.mark.parametrize("payload", [None, {}, {"authorization": "Bearer al_000000000000_"}, {"authorization": 3}, {"authorization": ""}])
async def test_a_socket_without_a_good_credential_is_closed(api: Api, payload: dict[str, Any] | None) -> None:
    async with socket(api.app) as connected:
        assert await connected.init(payload) == {"close": 4403, "reason": "Forbidden"}
    async with socket(api.app, authorization="Bearer nonsense") as connected:
        assert await connected.init(payload) == {"close": 4403, "reason": "Forbidden"}


async def test_no_key_is_taken_from_the_url(api: Api, client: Client) -> None:
    answer = await api.http.post(f"/graphql?authorization={client.key}", json={"query": "{ __typename }"})
    assert answer.status_code == 401


async def test_who_subscribes_before_the_acknowledgement_is_closed(api: Api) -> None:
    async with socket(api.app) as connected:
        connected.subscribe(ACTIVITY)
        assert await connected.receive() == {"close": 4401, "reason": "Unauthorized"}


async def test_who_never_says_who_it_is_is_closed(api: Api) -> None:
    limited(api, init_seconds=0.01)
    async with socket(api.app) as connected:
        assert await connected.receive() == {"close": 4408, "reason": "Connection initialisation timeout"}


async def test_a_second_init_and_a_second_subscription_of_an_id_are_closed(api: Api, client: Client) -> None:
    async with socket(api.app, authorization=bearer(client)) as connected:
        await connected.init()
        assert await connected.init() == {"close": 4429, "reason": "Too many initialisation requests"}
    async with socket(api.app, authorization=bearer(client)) as connected:
        await connected.init()
        connected.subscribe(ACTIVITY)
        connected.subscribe(ACTIVITY)
        assert await connected.receive() == {"close": 4409, "reason": "Subscriber for 1 already exists"}


MALFORMED: list[Any] = [
    3,
    None,
    [],
    "text",
    {},
    {"type": None},
    {"type": ["subscribe"]},
    {"type": "nonsense"},
    {"type": "subscribe"},
    {"type": "subscribe", "id": 3, "payload": {"query": ACTIVITY}},
    {"type": "subscribe", "id": "x" * 1_000, "payload": {"query": ACTIVITY}},
    {"type": "subscribe", "id": "1", "payload": None},
    {"type": "subscribe", "id": "1", "payload": {"query": 3}},
    {"type": "subscribe", "id": "1", "payload": {"query": ACTIVITY, "variables": []}},
    {"type": "subscribe", "id": "1", "payload": {"query": ACTIVITY, "operationName": 3}},
    {"type": "complete"},
    {"type": "complete", "id": []},
]


@pytest.mark.parametrize("message", MALFORMED, ids=repr)
async def test_a_malformed_message_closes_the_socket(api: Api, client: Client, message: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with socket(api.app, authorization=bearer(client)) as connected:
        await connected.init()
        connected.send(message)
        assert (await connected.receive())["close"] == 4400
    assert caplog.records == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"text": "{"}, 4400),
        ({"bytes": b"\x00"}, 4400),
        ({"text": "x" * (MAX_MESSAGE_BYTES + 1)}, 1009),
        ({"bytes": b"x" * (MAX_MESSAGE_BYTES + 1)}, 1009),
        ({"text": "[" * MAX_MESSAGE_BYTES}, 4400),
    ],
    ids=["no JSON", "binary", "too big", "too big and binary", "deep"],
)
async def test_what_is_no_message_at_all_closes_the_socket(api: Api, message: dict[str, Any], code: int) -> None:
    async with socket(api.app) as connected:
        connected.send_raw(**message)
        assert (await connected.receive())["close"] == code


@pytest.mark.parametrize("document", ["{ viewer { tenant } }", 'mutation { pauseIngestion(id: "x") { __typename } }'])
async def test_streams_carry_subscriptions_alone(api: Api, client: Client, document: str) -> None:
    kind = "mutations" if document.startswith("mutation") else "queries"
    async with socket(api.app, authorization=bearer(client)) as connected:
        await connected.init()
        connected.subscribe(document)
        assert await connected.receive() == {"type": "error", "id": "1", "payload": [{"message": f"{kind} are not allowed"}]}
        # The connection goes on.
        connected.send({"type": "ping"})
        assert await connected.receive() == {"type": "pong"}
    async with events(api.app, document, authorization=bearer(client)) as stream:
        assert await stream.receive() == ("next", {"errors": [{"message": f"{kind} are not allowed"}]})
        assert await stream.receive() == ("complete", None)


async def test_a_wrong_document_is_told_and_not_masked(api: Api, client: Client) -> None:
    wrong = "subscription { nothing }"
    message = "Cannot query field 'nothing' on type 'Subscription'."
    async with socket(api.app, authorization=bearer(client)) as connected:
        await connected.init()
        connected.subscribe(wrong)
        answer = await connected.receive()
        assert (answer["type"], answer["payload"][0]["message"]) == ("error", message)
    async with events(api.app, wrong, authorization=bearer(client)) as stream:
        event = await stream.receive()
        assert event is not None
        assert (event[0], event[1]["errors"][0]["message"]) == ("next", message)


@pytest.mark.parametrize("accept", ["application/json", RESPONSE_TYPE, "*/*", f"{RESPONSE_TYPE}, application/json, text/event-stream"])
async def test_a_subscription_asked_for_like_a_query_is_told_how(client: Client, accept: str) -> None:
    answer = await client.send(ACTIVITY, accept=accept)
    assert (answer.status, answer.errors) == (400, [{"message": STREAMS}])


async def test_who_accepts_a_stream_beside_an_answer_gets_the_answer_to_a_query(client: Client) -> None:
    answer = await client.send("{ __typename }", accept=f"{RESPONSE_TYPE}, text/event-stream, multipart/mixed")
    assert (answer.status, answer.data) == (200, {"__typename": "Query"})


async def test_an_event_stream_asks_for_a_credential_first(api: Api) -> None:
    async with events(api.app, ACTIVITY) as stream:
        assert stream.status == 401
        assert stream.headers["www-authenticate"] == "Bearer"


async def test_an_event_stream_is_had_by_get_too(api: Api, client: Client) -> None:
    async with events(api.app, ACTIVITY, by_get=True, authorization=bearer(client)) as stream:
        assert (stream.status, stream.headers["content-type"], stream.headers["cache-control"]) == (
            200,
            "text/event-stream",
            "no-cache, no-transform",
        )
        await api.notifications.quiet()
        await create(api, client)
        assert (await stream.next())["activity"]["kind"] == "INGESTION_CREATED"


async def test_a_quiet_event_stream_beats(api: Api, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Events().heartbeat_interval == 15
    monkeypatch.setattr(Events, "__init__", lambda self: SSETransport.__init__(self, 0.01))
    async with events(api.app, ACTIVITY, authorization=bearer(client)) as stream:
        assert await stream.receive() == ("comment", "ping")


async def test_one_socket_carries_several_subscriptions_and_each_ends_alone(api: Api, client: Client) -> None:
    mine, other = await create(api, client, name="mine"), await create(api, client, name="other")
    async with socket(api.app, authorization=bearer(client)) as connected:
        await connected.init()
        connected.subscribe(ACTIVITY, {"ingestion": mine["id"]}, id="mine")
        connected.subscribe(ACTIVITY, {"ingestion": other["id"]}, id="other")
        await api.notifications.quiet(2)
        connected.send({"type": "complete", "id": "mine"})
        await api.notifications.quiet(1)
        await queue(client, mine)
        await queue(client, other)
        assert (await connected.next("other"))["activity"]["ingestionId"] == other["id"]


async def test_more_connections_than_the_limit_are_refused(api: Api, client: Client) -> None:
    limited(api, connections=1)
    refusal = {
        "errors": [{"message": "the server has 1 open streams, and takes no more", "extensions": {"code": "LIMIT_EXCEEDED"}}],
    }
    async with socket(api.app):
        async with handshake(api.app) as another:
            start, body = await another.next(), await another.next()
            assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
            assert json.loads(body["body"]) == refusal
        async with events(api.app, ACTIVITY, authorization=bearer(client)) as stream:
            assert stream.status == 429
            assert json.loads((await stream.connection.next())["body"]) == refusal
    async with socket(api.app, authorization=bearer(client)) as connected:
        assert await connected.init() == ACK


async def test_more_connections_of_a_tenant_than_its_limit_are_refused(api: Api, client: Client) -> None:
    limited(api, connections_of_tenant=1)
    message = "your tenant has 1 open streams, and may have no more"
    async with socket(api.app, authorization=bearer(client)) as first:
        assert await first.init() == ACK
        async with socket(api.app, authorization=bearer(client)) as second:
            assert await second.init() == {"close": 1013, "reason": f"LIMIT_EXCEEDED: {message}"}
        async with events(api.app, ACTIVITY, authorization=bearer(client)) as stream:
            assert stream.status == 429
        async with socket(api.app, authorization=bearer(await api.client())) as anothers:
            assert await anothers.init() == ACK
    async with events(api.app, ACTIVITY, authorization=bearer(client)) as stream:
        assert stream.status == 200


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"subscriptions": 1}, "the server has 1 subscriptions, and takes no more"),
        ({"subscriptions_of_tenant": 1}, "your tenant has 1 subscriptions, and may have no more"),
        ({"subscriptions_of_connection": 1}, "this connection has 1 subscriptions, and may have no more"),
    ],
)
async def test_more_subscriptions_than_the_limit_are_refused(api: Api, client: Client, limits: dict[str, int], message: str) -> None:
    limited(api, **limits)
    async with socket(api.app, authorization=bearer(client)) as connected:
        await connected.init()
        connected.subscribe(ACTIVITY, id="first")
        await api.notifications.quiet()
        connected.subscribe(ACTIVITY, id="second")
        answer = await connected.receive()
        assert answer["id"] == "second"
        [error] = answer["payload"] if answer["type"] == "error" else answer["payload"]["errors"]
        assert (error["extensions"], error["message"]) == ({"code": "LIMIT_EXCEEDED"}, message)
        if answer["type"] == "next":
            assert await connected.receive() == {"type": "complete", "id": "second"}
        connected.send({"type": "complete", "id": "first"})
        # The place is free again.
        await api.notifications.quiet(0)
        connected.subscribe(ACTIVITY, id="third")
        await api.notifications.quiet()
        await create(api, client)
        await connected.next("third")


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now()"])
async def test_a_key_that_is_not_good_any_more_ends_its_streams(api: Api, client: Client, change: str) -> None:
    limited(api, believed_seconds=0.02)
    kept = await api.client(role=Role.VIEWER, tenant=client.tenant)
    async with (
        socket(api.app) as connected,
        events(api.app, ACTIVITY, authorization=bearer(client)) as stream,
        socket(api.app, authorization=bearer(kept)) as other,
    ):
        await connected.init({"authorization": bearer(client)})
        await other.init()
        connected.subscribe(ACTIVITY)
        other.subscribe(ACTIVITY)
        await api.notifications.quiet(3)
        async with api.database.begin() as connection:
            await connection.execute(text(f"UPDATE api_keys SET {change} WHERE prefix = '{str(client.key).split('_')[1]}'"))
        assert await connected.receive() == {"close": 4403, "reason": "Forbidden"}
        # Without `complete`: it was cut.
        assert await stream.receive() is None
        await api.notifications.quiet(1)
        await create(api, await api.client(tenant=client.tenant))
        await other.next()


async def test_a_client_that_has_gone_need_not_be_told_that_the_server_stops(api: Api, client: Client) -> None:
    async with socket(api.app, authorization=bearer(client)) as connected:
        await connected.init()
        connected.subscribe(ACTIVITY)
        await api.notifications.quiet()
        connected.connection.gone = True
        api.services.streams.close()
        # It raises nothing, of which a server would log a trace.
        await connected.connection.ended()
    await api.notifications.quiet(0)


async def test_a_server_that_stops_cuts_its_streams_and_takes_no_more(api: Api, client: Client) -> None:
    async with (
        socket(api.app, authorization=bearer(client)) as connected,
        events(api.app, ACTIVITY, authorization=bearer(client)) as stream,
    ):
        await connected.init()
        connected.subscribe(ACTIVITY)
        await api.notifications.quiet(2)
        api.services.streams.close()
        assert await connected.receive() == {"close": 1012, "reason": "The server is stopping."}
        assert await stream.receive() is None
        await connected.connection.ended()
        await stream.connection.ended()
    await api.notifications.quiet(0)
    async with handshake(api.app) as refused:
        assert (await refused.next())["status"] == 503
    async with events(api.app, ACTIVITY, authorization=bearer(client)) as stream:
        assert stream.status == 503


async def test_a_client_that_does_not_read_costs_a_page_and_no_more(api: Api, client: Client, statements: Statements) -> None:
    ingestion = await create(api, client)
    run = await queue(client, ingestion)
    count = 250
    document = "subscription { activity { kind runId cursor } }"
    async with (
        socket(api.app, authorization=bearer(client)) as connected,
        events(api.app, document, authorization=bearer(client)) as stream,
    ):
        await connected.init()
        connected.subscribe(document)
        await api.notifications.quiet(2)
        for connection in (connected.connection, stream.connection):
            connection.takes.clear()
        statements.watch(api.database)
        for _ in range(count):
            async with transaction(api, client) as tx:
                await tx.runs.update_metrics(key_of(Run, run), RunMetrics(rows_written=1))
        # Neither waits for news: each has one page at most in hand, and waits for its client.
        await api.notifications.quiet(0)
        looks = [sent for sent in statements.sent if "pg_current_snapshot" in sent]
        assert len(looks) <= 2 * 3, "a look at what woke it first, one at what came meanwhile, and no more until that is taken"
        assert connected.connection.outgoing.qsize() == stream.connection.outgoing.qsize() == 0
        for connection in (connected.connection, stream.connection):
            connection.takes.set()
        for told in (connected, stream):
            got = [(await told.next())["activity"] for _ in range(count)]
            assert {(event["kind"], event["runId"]) for event in got} == {(ActivityKind.RUN_PROGRESSED.value, run)}
            assert len({event["cursor"] for event in got}) == count


async def test_a_client_that_takes_too_long_is_cut(api: Api, client: Client) -> None:
    limited(api, send_seconds=0.02)
    async with (
        socket(api.app, authorization=bearer(client)) as connected,
        events(api.app, ACTIVITY, authorization=bearer(client)) as stream,
    ):
        await connected.init()
        connected.subscribe(ACTIVITY)
        await api.notifications.quiet(2)
        for connection in (connected.connection, stream.connection):
            connection.takes.clear()
        await create(api, client)
        await connected.connection.ended()
        await stream.connection.ended()
    await api.notifications.quiet(0)


async def test_what_one_process_changes_another_one_tells(api: Api, client: Client, database_url: str) -> None:
    database, hub = open_database(database_url, role=TENANT_ROLE), SqlNotifications(database_url)
    notifications = Watched(hub)
    feed = ActivityFeed(lambda id: SqlActivityLog(database, id), lambda id: SqlReader(database, id), notifications)
    services = dataclasses.replace(
        api.services, activity=feed, streams=OpenStreams(), reader=lambda tenant_id: SqlReader(database, tenant_id)
    )

    async def ready() -> None:
        pass

    another = create_app(services, ready=ready)
    try:
        async with (
            socket(another, authorization=bearer(client)) as there,
            events(api.app, ACTIVITY, authorization=bearer(client)) as here,
        ):
            await there.init()
            there.subscribe(ACTIVITY)
            await notifications.quiet()
            await api.notifications.quiet()
            ingestion = await create(api, client)
            for stream in (there, here):
                assert (await stream.next())["activity"]["ingestionId"] == ingestion["id"]
    finally:
        await hub.close()
        await database.dispose()


async def test_a_database_that_is_down_leaves_a_socket_to_try_again_later(
    api: Api, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise OSError("10.0.0.7:5432 as admin")

    monkeypatch.setattr("sqlalchemy.ext.asyncio.AsyncEngine.connect", down)
    async with socket(api.app, authorization=bearer(client)) as connected:
        assert await connected.init() == {"close": 1013, "reason": "UNAVAILABLE: the database is not available"}


async def test_an_unexpected_error_closes_the_socket_and_is_logged(
    api: Api, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError(uuid4().hex)

    monkeypatch.setattr("graphql_api.authentication.Authentication.principal_by", broken)
    async with socket(api.app, authorization=bearer(client)) as connected:
        assert await connected.init() == {"close": 1011, "reason": "Internal error. The server's log tells more."}
    assert "unexpected error" in caplog.text


async def test_nothing_is_left_of_a_client_that_has_gone(api: Api, client: Client) -> None:
    before = asyncio.all_tasks()
    async with socket(api.app, authorization=bearer(client)) as connected, events(api.app, ACTIVITY, authorization=bearer(client)):
        await connected.init()
        connected.subscribe(ACTIVITY)
        await api.notifications.quiet(2)
    await api.notifications.quiet(0)
    left = {task.get_name() for task in asyncio.all_tasks() - before}
    assert left <= {"notifications of activity"}, left
