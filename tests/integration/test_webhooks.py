"""From what happens to a receiver on this machine: the whole application, its background work, and real connections."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from sqlalchemy import text

from tests.fixtures.application import Running
from tests.fixtures.log_lines import LogLines
from tests.fixtures.receiver import Received, Receiver, hangs, receiving, status
from tests.integration.graphql_api.test_webhooks import CREATE, LIST, TEST
from tests.unit.docs.markdown import document


async def webhook(running: Running, receiver: Receiver, *events: str, **fields: Any) -> dict[str, Any]:
    input = {"url": receiver.url(), "events": events or ["RUN_FAILED"]} | fields
    created = (await running.client.data(CREATE, {"input": input}))["createWebhook"]
    assert created["__typename"] == "CreatedWebhook", created
    return dict(created)


async def deliveries(running: Running, **expected: Any) -> list[dict[str, Any]]:
    """What the API tells of the first webhook's, once the newest is as expected."""
    async with asyncio.timeout(30):
        while True:
            [hook] = (await running.client.data(LIST))["webhooks"]["nodes"]
            found = list(hook["deliveries"]["nodes"])
            if found and expected.items() <= found[0].items():
                return found
            await asyncio.sleep(0.02)


async def change(running: Running, statement: str) -> None:
    async with running.database.begin() as connection:
        await connection.execute(text(statement))


async def all_due(running: Running) -> None:
    """As if the time to try again had come."""
    await change(running, "UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 hour'")
    await change(running, "UPDATE outbox SET due_at = now()")


def documented_verify() -> Any:
    """The function that receivers are told to verify with."""
    [fence] = [fence for fence in document("docs/webhooks.md").fences if fence.language == "python"]
    scope: dict[str, Any] = {}
    exec(fence.text, scope)
    return scope["verify"]


async def test_a_failed_run_is_told_and_can_be_verified_and_asked_for(running: Running, receiver: Receiver) -> None:
    created = await webhook(running, receiver)
    (running.landing / "bad.json").write_text("<html>")
    run = await running.run(await running.create("events"))
    assert run["status"] == "FAILED"
    got = await receiver.next()
    verify = documented_verify()
    verify(created["secret"], got.headers, got.body)
    for changed in (
        Received(got.path, got.headers, got.body.replace(b"FAILED", b"SUCCESS")),
        Received(got.path, got.headers | {"webhook-id": "another"}, got.body),
        Received(got.path, got.headers | {"webhook-timestamp": str(int(got.headers["webhook-timestamp"]) + 1)}, got.body),
    ):
        with pytest.raises(ValueError, match="not signed by this secret"):
            verify(created["secret"], changed.headers, changed.body)
    told = got.json
    assert told["type"] == "run.failed"
    assert told["data"]["run"] == {
        "id": run["id"],
        "status": "FAILED",
        "trigger": "MANUAL",
        "filesProcessed": 0,
        "filesFailed": 1,
        "rowsWritten": 0,
        "errorMessage": "1 of 1 files failed; each file says why",
    }
    [delivery] = await deliveries(running, status="DELIVERED")
    assert (delivery["eventId"], delivery["responseCode"], delivery["attempts"]) == (got.headers["webhook-id"], 204, 1)
    async with running.database.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM outbox WHERE topic = 'DELIVERY'")) == 0


async def test_a_new_schema_version_is_told_to_those_who_ask(running: Running, receiver: Receiver) -> None:
    (running.landing / "a.json").write_text('{"id": 1}')
    ingestion = await running.create("events")
    await webhook(running, receiver, "SCHEMA_CHANGED", "RUN_FAILED", ingestionId=ingestion)
    await running.run(ingestion)
    (running.landing / "b.json").write_text('{"id": 2, "kind": "open"}')
    await running.run(ingestion)
    versions = sorted([(await receiver.next()).json["data"]["schema"] for _ in range(2)], key=lambda schema: schema["version"])
    assert [schema["version"] for schema in versions] == [1, 2]
    assert versions[1]["added"] == [{"name": "kind", "type": "string"}]


async def test_what_fails_is_tried_again_with_the_same_id_and_body(running: Running, receiver: Receiver) -> None:
    created = await webhook(running, receiver)
    async with receiving() as internal:
        receiver.answers += [status(500), status(302, f"location: {internal.url()}")]
        await running.client.data(TEST, {"id": created["webhook"]["id"]})
        got = [await receiver.next()]
        assert (await deliveries(running, attempts=1))[0]["error"] == "the receiver answers 500"
        await all_due(running)
        got.append(await receiver.next())
        assert (await deliveries(running, attempts=2))[0]["error"] == "the receiver answers 302; redirections are not followed"
        await all_due(running)
        got.append(await receiver.next())
        [delivery] = await deliveries(running, status="DELIVERED")
        assert (delivery["attempts"], delivery["error"]) == (3, None)
        assert internal.received.empty()
    assert {(one.headers["webhook-id"], one.body) for one in got} == {(delivery["eventId"], got[0].body)}


async def test_a_receiver_that_hangs_keeps_neither_runs_nor_others_waiting(running: Running, receiver: Receiver) -> None:
    async with receiving() as slow:
        slow.answers += [hangs] * 10
        await webhook(running, slow)
        await webhook(running, receiver)
        (running.landing / "bad.json").write_text("<html>")
        ingestion = await running.create("events")
        first = await running.run(ingestion)
        assert (await receiver.next()).json["data"]["run"]["id"] == first["id"]
        await slow.next()
        second = await running.run(ingestion)
        assert second["status"] == "NO_NEW_FILES"
        # It still hangs: its place is its own.
        assert (await hook_of(running, slow))["lastAttemptAt"] is None


async def hook_of(running: Running, receiver: Receiver) -> dict[str, Any]:
    nodes = (await running.client.data(LIST))["webhooks"]["nodes"]
    [found] = [node for node in nodes if node["url"] == receiver.url()]
    return dict(found)


async def test_late_data_are_told_once_and_again_after_some_have_come(running: Running, receiver: Receiver) -> None:
    await webhook(running, receiver, "DATA_LATE")
    schedule = {"cron": "0 0 1 1 *"}
    ingestion = await running.create("events", schedule=schedule, policies={"lateAfterSeconds": 3600}, activate=True)
    late = "UPDATE ingestions SET late_at = now() WHERE late_at IS NOT NULL"
    await change(running, late)
    told = (await receiver.next()).json
    assert (told["type"], told["data"]["ingestion"], told["data"]["lateAfterSeconds"]) == (
        "data.late",
        {"id": ingestion, "name": "events"},
        3600,
    )
    await change(running, late)
    (running.landing / "a.json").write_text('{"id": 1}')
    assert (await running.run(ingestion))["status"] == "SUCCESS"
    await deliveries(running, status="DELIVERED")
    assert receiver.received.empty()
    await change(running, late)
    assert (await receiver.next()).json["type"] == "data.late"
    assert receiver.received.empty()


async def test_the_secret_is_neither_in_the_database_nor_in_the_log(running: Running, receiver: Receiver, log_lines: LogLines) -> None:
    created = await webhook(running, receiver, description="hook")
    receiver.answers.append(status(500))
    await running.client.data(TEST, {"id": created["webhook"]["id"]})
    await receiver.next()
    await deliveries(running, attempts=1)
    logging.getLogger("test").warning("%s", created["secret"])
    async with running.database.connect() as connection:
        tables = ("webhooks", "webhook_deliveries", "outbox", "audit_events", "activity_events")
        rows = [str(row) for table in tables for row in await connection.scalars(text(f"SELECT {table}::text FROM {table}"))]
    secret = created["secret"].removeprefix("whsec_")
    assert len(rows) >= 4
    assert not [row for row in rows if secret in row]
    # Once: the line above. And what looks like one is replaced.
    assert log_lines.unredacted.getvalue().count(secret) == log_lines.text.getvalue().count("whsec_[redacted]") == 1
    assert receiver.url() not in log_lines.unredacted.getvalue()
