"""Subscriptions, over both of their protocols: what is told, to whom, and from where on."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any, Protocol
from uuid import UUID

import pytest
from sqlalchemy import text

from domain.activity.feed import RESUMABLE_SECONDS
from domain.ingestions.entities import Ingestion
from domain.runs.entities import Run, RunMetrics, RunStatus
from domain.tenants import Role
from graphql_api.relay.ids import decode_id, encode_id
from persistence.unit_of_work import SqlUnitOfWorkFactory
from tests.factories import NOW
from tests.fixtures.api import Api, Client
from tests.fixtures.statements import Statements
from tests.fixtures.streams import events, socket
from tests.integration.graphql_api.documents import CHANGE_STATUS, RUN, create

ACTIVITY = """
subscription Activity($ingestion: ID, $after: String) {
  activity(ingestionId: $ingestion, after: $after) {
    kind at cursor ingestionId runId ingestion { id name status } run { id status filesProcessed ingestion { name } }
  }
}
"""
RUN_UPDATED = "subscription Follow($run: ID!) { runUpdated(runId: $run) { id status filesProcessed progress ingestion { name } } }"


class Stream(Protocol):
    async def next(self) -> Any: ...


@dataclasses.dataclass
class Subscriber:
    """One client that follows by one of the two protocols."""

    protocol: str
    api: Api

    @contextlib.asynccontextmanager
    async def follow(self, client: Client, document: str, **variables: Any) -> AsyncIterator[Stream]:
        """Subscribed: what happens from now on is told."""
        authorization = f"Bearer {client.key}"
        if self.protocol == "sse":
            async with events(self.api.app, document, variables, authorization=authorization) as stream:
                await self.api.notifications.quiet()
                yield stream
        else:
            async with socket(self.api.app) as connected:
                assert await connected.init({"authorization": authorization}) == {"type": "connection_ack"}
                connected.subscribe(document, variables)
                await self.api.notifications.quiet()
                yield connected

    async def completes(self, stream: Any) -> None:
        if self.protocol == "sse":
            assert await stream.receive() == ("complete", None)
            assert await stream.receive() is None
        else:
            assert await stream.receive() == {"type": "complete", "id": "1"}

    @contextlib.asynccontextmanager
    async def refused(self, client: Client, document: str, **variables: Any) -> AsyncIterator[list[dict[str, Any]]]:
        """The errors with which the subscription is answered."""
        authorization = f"Bearer {client.key}"
        if self.protocol == "sse":
            async with events(self.api.app, document, variables, authorization=authorization) as stream:
                event = await stream.receive()
                assert event is not None
                assert (event[0], event[1].get("data")) == ("next", None)
                await self.completes(stream)
                yield event[1]["errors"]
        else:
            async with socket(self.api.app, authorization=authorization) as connected:
                await connected.init()
                connected.subscribe(document, variables)
                message = await connected.receive()
                assert message["type"] == "error", message
                yield message["payload"]


@pytest.fixture(params=["ws", "sse"])
def subscriber(request: pytest.FixtureRequest, api: Api) -> Subscriber:
    return Subscriber(request.param, api)


async def queue(client: Client, ingestion: dict[str, Any]) -> str:
    return str((await client.data(RUN, {"input": {"ingestionId": ingestion["id"]}}))["runIngestion"]["id"])


@contextlib.asynccontextmanager
async def transaction(api: Api, client: Client) -> AsyncIterator[Any]:
    """What a worker does, as another process would."""
    async with SqlUnitOfWorkFactory(api.database)(client.tenant.id) as tx:
        yield tx


def key_of(entity: type, id: str) -> UUID:
    key = decode_id(entity, id)
    assert isinstance(key, UUID)
    return key


async def test_activity_tells_what_happens_with_what_it_happened_to(api: Api, client: Client, subscriber: Subscriber) -> None:
    before = await create(api, client, name="before")
    async with subscriber.follow(client, ACTIVITY) as stream:
        orders = await create(api, client)
        created = (await stream.next())["activity"]
        assert created == {
            "kind": "INGESTION_CREATED",
            "at": created["at"],
            "cursor": created["cursor"],
            "ingestionId": orders["id"],
            "runId": None,
            "ingestion": {"id": orders["id"], "name": "orders", "status": "DRAFT"},
            "run": None,
        }
        await client.data(CHANGE_STATUS % "activateIngestion", {"id": orders["id"]})
        activated = (await stream.next())["activity"]
        assert (activated["kind"], activated["ingestion"]["status"]) == ("INGESTION_STATUS_CHANGED", "ACTIVE")
        run = await queue(client, before)
        queued = (await stream.next())["activity"]
        assert (queued["kind"], queued["runId"]) == ("RUN_QUEUED", run)
        assert queued["run"] == {"id": run, "status": "QUEUED", "filesProcessed": 0, "ingestion": {"name": "before"}}
        async with transaction(api, client) as tx:
            await tx.runs.update_status(key_of(Run, run), RunStatus.RUNNING, at=NOW, lease_seconds=60)
        started = (await stream.next())["activity"]
        assert (started["kind"], started["run"]["status"]) == ("RUN_STARTED", "RUNNING")
        async with transaction(api, client) as tx:
            await tx.runs.update_metrics(key_of(Run, run), RunMetrics(files_processed=7))
        progressed = (await stream.next())["activity"]
        assert (progressed["kind"], progressed["run"]["filesProcessed"]) == ("RUN_PROGRESSED", 7)
        async with transaction(api, client) as tx:
            await tx.runs.update_status(key_of(Run, run), RunStatus.SUCCESS, at=NOW)
        ended = (await stream.next())["activity"]
        assert (ended["kind"], ended["run"]["status"]) == ("RUN_ENDED", "SUCCESS")


async def test_who_comes_back_with_a_cursor_goes_on_without_a_gap_and_without_a_repeat(
    api: Api, client: Client, subscriber: Subscriber
) -> None:
    async with subscriber.follow(client, ACTIVITY) as stream:
        names = [f"n{number}" for number in range(5)]
        for name in names[:2]:
            await create(api, client, name=name)
        had = [(await stream.next())["activity"] for _ in names[:2]]
    for name in names[2:]:
        await create(api, client, name=name)
    cursor = had[-1]["cursor"]
    async with subscriber.follow(client, ACTIVITY, after=cursor) as stream:
        # The page is told one by one; each cursor is good to go on from.
        for name in names[2:]:
            event = (await stream.next())["activity"]
            assert event["ingestion"]["name"] == name
    await create(api, client, name="later")
    async with subscriber.follow(client, ACTIVITY, after=event["cursor"]) as stream:
        assert (await stream.next())["activity"]["ingestion"]["name"] == "later"


async def test_activity_of_one_ingestion_leaves_the_others_out(api: Api, client: Client, subscriber: Subscriber) -> None:
    mine, other = await create(api, client, name="mine"), await create(api, client, name="other")
    async with subscriber.follow(client, ACTIVITY, ingestion=mine["id"]) as stream:
        await queue(client, other)
        run = await queue(client, mine)
        assert (await stream.next())["activity"]["runId"] == run


async def test_activity_is_the_tenants_own(api: Api, client: Client, subscriber: Subscriber) -> None:
    stranger = await api.client()
    async with subscriber.follow(stranger, ACTIVITY) as stream:
        await create(api, client, name="theirs")
        await create(api, stranger, name="mine")
        assert (await stream.next())["activity"]["ingestion"]["name"] == "mine"


async def test_an_event_is_told_though_what_it_points_at_is_gone(api: Api, client: Client, subscriber: Subscriber) -> None:
    ingestion = await create(api, client)
    async with subscriber.follow(client, ACTIVITY) as stream:
        async with transaction(api, client) as tx:
            await tx.ingestions.delete(key_of(Ingestion, ingestion["id"]))
        event = (await stream.next())["activity"]
        assert (event["kind"], event["ingestionId"], event["ingestion"]) == ("INGESTION_DELETED", ingestion["id"], None)


async def test_a_run_is_told_as_it_is_and_as_it_becomes_and_then_it_is_complete(api: Api, client: Client, subscriber: Subscriber) -> None:
    run = await queue(client, await create(api, client))
    key = key_of(Run, run)
    async with subscriber.follow(client, RUN_UPDATED, run=run) as stream:
        assert (await stream.next())["runUpdated"] == {
            "id": run,
            "status": "QUEUED",
            "filesProcessed": 0,
            "progress": 0,
            "ingestion": {"name": "orders"},
        }
        async with transaction(api, client) as tx:
            await tx.runs.update_status(key, RunStatus.RUNNING, at=NOW, lease_seconds=60)
        assert (await stream.next())["runUpdated"]["status"] == "RUNNING"
        # Neither a lease that is renewed nor what happens to others is told.
        async with transaction(api, client) as tx:
            await tx.runs.renew_lease(key, seconds=90)
        await create(api, client, name="another")
        await api.notifications.quiet()
        async with transaction(api, client) as tx:
            await tx.runs.update_metrics(key, RunMetrics(files_processed=1), files_total=2)
        progressed = (await stream.next())["runUpdated"]
        assert (progressed["status"], progressed["filesProcessed"], progressed["progress"]) == ("RUNNING", 1, 0.5)
        async with transaction(api, client) as tx:
            await tx.runs.update_status(key, RunStatus.SUCCESS, at=NOW)
        assert (await stream.next())["runUpdated"]["status"] == "SUCCESS"
        await subscriber.completes(stream)


async def test_a_run_that_has_ended_is_told_once(api: Api, client: Client, subscriber: Subscriber) -> None:
    run = await queue(client, await create(api, client))
    async with transaction(api, client) as tx:
        await tx.runs.update_status(key_of(Run, run), RunStatus.CANCELLED, at=NOW)
    if subscriber.protocol == "sse":
        async with events(api.app, RUN_UPDATED, {"run": run}, authorization=f"Bearer {client.key}") as stream:
            assert (await stream.next())["runUpdated"]["status"] == "CANCELLED"
            await subscriber.completes(stream)
    else:
        async with socket(api.app, authorization=f"Bearer {client.key}") as connected:
            await connected.init()
            connected.subscribe(RUN_UPDATED, {"run": run})
            assert (await connected.next())["runUpdated"]["status"] == "CANCELLED"
            await subscriber.completes(connected)


@pytest.mark.parametrize(
    ("document", "variables", "code", "message"),
    [
        (RUN_UPDATED, {"run": "nonsense"}, "NOT_FOUND", "run not found"),
        (RUN_UPDATED, {"run": encode_id(Run, UUID(int=1))}, "NOT_FOUND", "run not found"),
        (ACTIVITY, {"ingestion": encode_id(Ingestion, UUID(int=1))}, "NOT_FOUND", "ingestion not found"),
        (ACTIVITY, {"ingestion": ""}, "NOT_FOUND", "ingestion not found"),
        (ACTIVITY, {"after": "nonsense"}, "VALIDATION", "after: not a cursor of an event"),
        (ACTIVITY, {"after": "YWN0aXZpdHk6MTox\n"}, "VALIDATION", "after: not a cursor of an event"),
        (
            ACTIVITY,
            {"after": "YWN0aXZpdHk6MTox"},
            "VALIDATION",
            "after: this event is not kept any more: read the present state, and subscribe without it",
        ),
    ],
)
async def test_what_is_asked_wrongly_is_refused_with_its_code(
    client: Client, subscriber: Subscriber, document: str, variables: dict[str, Any], code: str, message: str
) -> None:
    async with subscriber.refused(client, document, **variables) as errors:
        assert [(error["extensions"]["code"], error["message"]) for error in errors] == [(code, message)]


async def test_a_cursor_of_another_tenant_or_of_long_ago_is_none(api: Api, client: Client, subscriber: Subscriber) -> None:
    async with subscriber.follow(client, ACTIVITY) as stream:
        await create(api, client)
        cursor = (await stream.next())["activity"]["cursor"]
    async with subscriber.refused(await api.client(), ACTIVITY, after=cursor) as errors:
        assert [error["extensions"]["code"] for error in errors] == ["VALIDATION"]
    async with api.database.begin() as connection:
        await connection.execute(text(f"UPDATE activity_events SET at = at - interval '{RESUMABLE_SECONDS} seconds'"))
    async with subscriber.refused(client, ACTIVITY, after=cursor) as errors:
        assert [error["extensions"]["code"] for error in errors] == ["VALIDATION"]


async def test_a_page_of_events_is_one_look_and_one_statement_for_each_kind_of_what_they_point_at(
    api: Api, client: Client, statements: Statements
) -> None:
    async with socket(api.app, authorization=f"Bearer {client.key}") as connected:
        await connected.init()
        connected.subscribe(ACTIVITY)
        await api.notifications.quiet()
        orders = await create(api, client)
        cursor = (await connected.next())["activity"]["cursor"]
        run = await queue(client, orders)
        async with transaction(api, client) as tx:
            await tx.runs.update_status(key_of(Run, run), RunStatus.RUNNING, at=NOW, lease_seconds=60)
        for _ in range(2):
            await connected.next()
        await api.notifications.quiet()
    statements.watch(api.database)
    async with socket(api.app, authorization=f"Bearer {client.key}") as connected:
        await connected.init()
        with statements.exactly(1 + 1 + 2):
            # Whether the cursor is good, the page, its ingestion and its run.
            connected.subscribe(ACTIVITY, {"after": cursor})
            told = [(await connected.next())["activity"] for _ in range(2)]
            await api.notifications.quiet()
        assert [event["kind"] for event in told] == ["RUN_QUEUED", "RUN_STARTED"]


async def test_a_viewer_may_follow(api: Api, client: Client, subscriber: Subscriber) -> None:
    viewer = await api.client(role=Role.VIEWER, tenant=client.tenant)
    async with subscriber.follow(viewer, ACTIVITY) as stream:
        await create(api, client)
        assert (await stream.next())["activity"]["kind"] == "INGESTION_CREATED"


async def test_an_unexpected_error_is_masked_and_logged_under_its_id(
    client: Client, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr("persistence.activity.SqlActivityLog.now", broken)
    async with subscriber.refused(client, ACTIVITY) as [error]:
        assert error["message"] == "Internal error. The server's log tells more under its id."
        assert error["extensions"]["code"] == "INTERNAL"
        assert error["extensions"]["errorId"] in caplog.text
    assert "the secret is 42" in caplog.text
