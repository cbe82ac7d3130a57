"""Webhooks over fakes: made, told of what happens, tried again, given up, and sent once more."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import LimitExceededError, NotFoundError, ValidationError
from domain.ingestions.checkpoints import Checkpoints
from domain.ingestions.entities import Ingestion, IngestionStatus, Policies, SchemaEvolution
from domain.ingestions.inputs import IngestionCreate, IngestionUpdate
from domain.ingestions.service import IngestionService
from domain.notifications.announcing import announce
from domain.notifications.delivery import TYPES, DeliveryService, DeliverySettings
from domain.notifications.entities import DeliveryStatus, Webhook, WebhookDelivery, WebhookEvent
from domain.notifications.events import NAMED_COLUMNS, data_late, ingestion_failed, run_ended, schema_change_proposed, schema_changed
from domain.notifications.lateness import LatenessService
from domain.notifications.service import MOST_WEBHOOKS, WebhookCreate, WebhookService
from domain.ports.engine import ColumnChange
from domain.ports.telemetry import DeliveryOutcome, NoTelemetry
from domain.ports.unit_of_work import Subject, Topic
from domain.ports.webhooks import DeliveryError
from domain.runs.entities import Run, RunStatus
from domain.schema_versions import SchemaDiff
from tests.factories import (
    BUCKET,
    NOW,
    a_create_input,
    a_principal,
    a_run,
    a_schedule,
    a_schema,
    a_schema_change,
    a_schema_version,
    an_event,
    an_ingestion,
    new_columns,
)
from tests.fakes.database import FakeDatabase
from tests.fakes.webhooks import FakeSeal, FakeSender
from tests.workbench import Workbench

_K = WebhookEvent
SETTINGS = DeliverySettings(first_retry_seconds=10, longest_retry_seconds=60, most_attempts=6)


class Counted(NoTelemetry):
    def __init__(self) -> None:
        self.outcomes: list[DeliveryOutcome] = []

    def delivery_tried(self, outcome: DeliveryOutcome) -> None:
        self.outcomes.append(outcome)


@dataclass
class Desk:
    bench: Workbench
    database: FakeDatabase
    sender: FakeSender = field(default_factory=FakeSender)
    telemetry: Counted = field(default_factory=Counted)
    settings: DeliverySettings = SETTINGS

    @property
    def principal(self) -> Any:
        return a_principal(self.bench.tenant)

    @property
    def service(self) -> WebhookService:
        return WebhookService(self.bench.unit_of_work, self.sender, FakeSeal(), self.bench.clock)

    @property
    def delivering(self) -> DeliveryService:
        def node_id(entity: type, key: object) -> str:
            return f"{entity.__name__}:{key}"

        return DeliveryService(self.bench.unit_of_work, self.sender, FakeSeal(), self.bench.clock, node_id, self.settings, self.telemetry)

    async def create(self, *events: WebhookEvent, **fields: Any) -> Webhook:
        input = {"url": "https://receiver.example/", "events": events or (_K.RUN_FAILED,)} | fields
        return (await self.service.create(self.principal, WebhookCreate.parse(input))).webhook

    async def announce(self, event: Any = None) -> list[WebhookDelivery]:
        async with self.bench.unit_of_work(self.bench.tenant.id) as tx:
            await announce(tx, event or an_event())
        return self.deliveries()

    def deliveries(self) -> list[WebhookDelivery]:
        return list(self.database.state.deliveries.values())

    def queued(self) -> list[tuple[Topic, Any]]:
        return [(row.topic, row.subject.id) for row in self.database.state.outbox.values()]

    async def attempt(self, delivery: WebhookDelivery) -> float | None:
        return await self.delivering.attempt(Subject(delivery.tenant_id, delivery.id))

    def stored(self, delivery: WebhookDelivery) -> WebhookDelivery:
        return self.database.state.deliveries[delivery.id]


@pytest.fixture
def desk(bench: Workbench, fake_database: FakeDatabase) -> Desk:
    return Desk(bench, fake_database)


async def test_a_webhook_is_made_with_a_secret_that_is_shown_once(desk: Desk) -> None:
    input = WebhookCreate.parse({"url": "https://receiver.example/", "events": ["DATA_LATE", "RUN_FAILED", "DATA_LATE"]})
    created = await desk.service.create(desk.principal, input)
    assert created.webhook.events == (_K.DATA_LATE, _K.RUN_FAILED)
    secret = base64.b64decode(created.secret.removeprefix("whsec_"))
    assert len(secret) == 32
    assert created.secret not in repr(created)
    assert desk.database.state.webhook_secrets == {created.webhook.id: FakeSeal().seal(secret, owner=created.webhook.id)}
    [trail] = desk.database.state.audit_events.values()
    assert (trail.operation, trail.subject_kind, trail.subject_id) == ("createWebhook", "Webhook", created.webhook.id)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"events": []}, {("events",)}),
        ({"events": ["TEST"]}, {("events",)}),
        ({"url": "https://" + "x" * 2_048}, {("url",)}),
        ({"url": "https://receiver.example/\0"}, {("url",)}),
        ({"description": "", "more": 1}, {("description",), ("more",)}),
    ],
)
def test_bad_input_names_its_fields(fields: dict[str, Any], wrong: set[Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        WebhookCreate.parse({"url": "https://receiver.example/", "events": ["RUN_FAILED"]} | fields)
    assert {field.path for field in caught.value.fields} == wrong


async def test_a_url_that_may_not_be_sent_to_is_refused_and_nothing_stored(desk: Desk) -> None:
    with pytest.raises(ValidationError) as caught:
        await desk.create(url="https://internal.example/")
    assert [(field.path, field.message) for field in caught.value.fields] == [
        (("url",), "the host has an address that webhooks may not be sent to")
    ]
    assert (desk.database.state.webhooks, desk.database.state.audit_events) == ({}, {})


async def test_an_ingestion_has_to_be_there_and_to_stay(desk: Desk) -> None:
    going = await desk.bench.ingestion(status=IngestionStatus.DELETING)
    for id in (uuid4(), going.id):
        with pytest.raises(NotFoundError, match="ingestion not found"):
            await desk.create(ingestion_id=id)


async def test_there_are_only_so_many(desk: Desk) -> None:
    for _ in range(MOST_WEBHOOKS):
        await desk.create()
    with pytest.raises(LimitExceededError, match="there are 20 webhooks, and no more are allowed; delete one first"):
        await desk.create()
    assert len(desk.database.state.audit_events) == MOST_WEBHOOKS


async def test_an_event_is_stored_with_what_has_it_sent(desk: Desk) -> None:
    await desk.create()
    await desk.create(_K.RUN_PARTIAL)
    [delivery] = await desk.announce()
    assert desk.queued() == [(Topic.DELIVERY, delivery.id)]
    assert desk.sender.sent == []


async def test_what_is_rolled_back_is_told_to_nobody(desk: Desk) -> None:
    await desk.create()
    with pytest.raises(ZeroDivisionError):
        await _announce_and_fail(desk)
    assert (desk.deliveries(), desk.queued()) == ([], [])


async def _announce_and_fail(desk: Desk) -> None:
    async with desk.bench.unit_of_work(desk.bench.tenant.id) as tx:
        await announce(tx, an_event())
        raise ZeroDivisionError


async def test_what_is_sent_is_signed_by_the_standard(desk: Desk) -> None:
    created = await desk.service.create(desk.principal, WebhookCreate.parse({"url": "https://a.example/", "events": ["RUN_FAILED"]}))
    ingestion, run = uuid4(), uuid4()
    event = an_event(ingestion_id=ingestion, run_id=run, data={"run": {"filesFailed": 2}})
    [delivery] = await desk.announce(event)
    assert await desk.attempt(delivery) is None
    [sent] = desk.sender.sent
    assert sent.url == "https://a.example/"
    assert json.loads(sent.body) == {
        "type": "run.failed",
        "timestamp": "2026-03-02T12:00:00Z",
        "data": {
            "ingestion": {"id": f"Ingestion:{ingestion}"},
            "run": {"id": f"Run:{run}", "filesFailed": 2},
            "webhook": {"id": f"Webhook:{created.webhook.id}"},
        },
    }
    secret = base64.b64decode(created.secret.removeprefix("whsec_"))
    timestamp = str(int(NOW.timestamp()))
    expected = hmac.new(secret, f"{event.id}.{timestamp}.".encode() + sent.body, hashlib.sha256).digest()
    assert sent.headers == {
        "webhook-id": str(event.id),
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(expected).decode(),
    }
    ended = desk.stored(delivery)
    assert (ended.status, ended.attempts, ended.response_code, ended.ended_at) == (DeliveryStatus.DELIVERED, 1, 200, NOW)
    assert await desk.attempt(delivery) is None
    assert len(desk.sender.sent) == 1


def test_every_event_has_a_type() -> None:
    assert set(TYPES) == set(WebhookEvent)
    assert len(set(TYPES.values())) == len(TYPES)


async def test_a_failure_is_tried_again_later_and_later_and_then_given_up(desk: Desk) -> None:
    webhook = await desk.create()
    [delivery] = await desk.announce()
    desk.sender.answers = [500, DeliveryError("no connection could be made"), 302, 429, RuntimeError("broken"), 400]
    waits = []
    for _ in range(6):
        before = len(desk.sender.sent)
        wait = await desk.attempt(delivery)
        waits.append(wait)
        assert len(desk.sender.sent) == before + 1
        if wait is not None:
            desk.bench.clock.advance(seconds=wait - 1)
            assert await desk.attempt(delivery) == 1
            desk.bench.clock.advance(seconds=1)
    assert waits == [10, 20, 40, 60, 60, None]
    assert {sent.headers["webhook-id"] for sent in desk.sender.sent} == {str(delivery.event_id)}
    assert len({sent.body for sent in desk.sender.sent}) == 1
    assert len({sent.headers["webhook-timestamp"] for sent in desk.sender.sent}) == 6
    ended = desk.stored(delivery)
    assert (ended.status, ended.attempts, ended.next_attempt_at, ended.error) == (
        DeliveryStatus.GIVEN_UP,
        6,
        None,
        "the receiver answers 400",
    )
    assert desk.telemetry.outcomes == [DeliveryOutcome.FAILED] * 5 + [DeliveryOutcome.GIVEN_UP]
    stored = desk.database.state.webhooks[webhook.id]
    assert (stored.consecutive_failures, stored.last_delivery_status) == (6, DeliveryStatus.GIVEN_UP)


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [
        (404, 404, "the receiver answers 404"),
        (301, 301, "the receiver answers 301; redirections are not followed"),
        (DeliveryError("no connection could be made"), None, "no connection could be made"),
        (RuntimeError("a secret of ours"), None, "internal error; the log tells more under this delivery's id"),
    ],
)
async def test_what_went_wrong_stands_with_the_delivery(desk: Desk, answer: Any, code: int | None, error: str) -> None:
    await desk.create()
    [delivery] = await desk.announce()
    desk.sender.answers = [answer]
    assert await desk.attempt(delivery) == 10
    tried = desk.stored(delivery)
    assert (tried.status, tried.response_code, tried.error) == (DeliveryStatus.PENDING, code, error)
    assert tried.next_attempt_at == NOW + timedelta(seconds=10)


async def test_a_secret_that_another_key_has_sealed_is_told_and_nothing_sent(desk: Desk) -> None:
    webhook = await desk.create()
    [delivery] = await desk.announce()
    desk.database.state.webhook_secrets[webhook.id] = b"another"
    assert await desk.attempt(delivery) == 10
    assert desk.stored(delivery).error == "the signing secret cannot be read with this server's key"
    assert desk.sender.sent == []


def test_unless_told_a_delivery_is_given_up_after_some_29_hours() -> None:
    settings = DeliverySettings()
    waits = [settings.wait_after(attempts) for attempts in range(1, 17)]
    assert waits[-1] is None
    total = sum((wait for wait in waits[:-1] if wait is not None), timedelta())
    assert timedelta(hours=29) < total < timedelta(hours=30)


async def test_what_was_sent_and_not_stored_is_sent_again_under_the_same_id(desk: Desk) -> None:
    await desk.create()
    [delivery] = await desk.announce()
    send = desk.sender.send

    async def send_and_lose_the_database(*args: Any) -> int:
        code = await send(*args)
        desk.database.failure = ConnectionError("gone")
        return code

    desk.sender.send = send_and_lose_the_database  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await desk.attempt(delivery)
    desk.database.failure, desk.sender.send = None, send  # type: ignore[method-assign]
    assert await desk.attempt(delivery) is None
    first, second = desk.sender.sent
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(delivery.event_id)
    assert desk.stored(delivery).attempts == 1


async def test_two_who_try_at_once_are_counted_as_one(desk: Desk) -> None:
    await desk.create()
    [delivery] = await desk.announce()
    send = desk.sender.send

    async def send_while_another_does(*args: Any) -> int:
        desk.sender.send = send  # type: ignore[method-assign]
        assert await desk.attempt(delivery) is None
        return await send(*args)

    desk.sender.send = send_while_another_does  # type: ignore[method-assign]
    assert await desk.attempt(delivery) == 1
    assert await desk.attempt(delivery) is None
    assert desk.stored(delivery).attempts == 1
    assert desk.telemetry.outcomes == [DeliveryOutcome.DELIVERED]


async def test_a_deleted_webhook_is_told_nothing_more(desk: Desk) -> None:
    webhook = await desk.create()
    [delivery] = await desk.announce()
    assert await desk.service.delete(desk.principal, webhook.id) == webhook
    assert await desk.attempt(delivery) is None
    assert desk.sender.sent == []
    with pytest.raises(NotFoundError, match="webhook not found"):
        await desk.service.delete(desk.principal, webhook.id)


async def test_a_webhook_can_be_tried(desk: Desk) -> None:
    webhook = await desk.create()
    await desk.create()
    delivery = await desk.service.test(desk.principal, webhook.id)
    assert desk.deliveries() == [delivery]
    assert desk.queued() == [(Topic.DELIVERY, delivery.id)]
    assert await desk.attempt(delivery) is None
    [sent] = desk.sender.sent
    assert json.loads(sent.body)["type"] == "webhook.test"
    with pytest.raises(NotFoundError, match="webhook not found"):
        await desk.service.test(desk.principal, uuid4())


async def test_what_was_given_up_can_be_sent_once_more(desk: Desk) -> None:
    desk.settings = replace(desk.settings, most_attempts=1)
    await desk.create()
    [delivery] = await desk.announce()
    desk.sender.answers = [500]
    assert await desk.attempt(delivery) is None
    desk.database.state.outbox.clear()
    again = await desk.service.redeliver(desk.principal, delivery.id)
    assert (again.status, again.attempts) == (DeliveryStatus.PENDING, 0)
    assert desk.queued() == [(Topic.DELIVERY, delivery.id)]
    assert await desk.attempt(delivery) is None
    assert desk.stored(delivery).status is DeliveryStatus.DELIVERED
    with pytest.raises(NotFoundError, match="delivery not found"):
        await desk.service.redeliver(desk.principal, uuid4())


# What happens, and what is told of it.


async def told(desk: Desk) -> list[tuple[WebhookEvent, Any]]:
    return [(delivery.event, delivery.run_id) for delivery in desk.deliveries()]


ALL = tuple(kind for kind in WebhookEvent if kind is not _K.TEST)


async def test_runs_that_fail_are_told_and_the_ingestions_error_once(desk: Desk) -> None:
    await desk.create(*ALL)
    ingestion = await desk.bench.ingestion(status=IngestionStatus.ACTIVE)
    runs = []
    for _ in range(3):
        subject = await desk.bench.queue(ingestion)
        await desk.bench.pipeline.start(subject)
        runs.append(await desk.bench.pipeline.fail(await desk.bench.run(subject), "the store is away"))
    ids = [run.id for run in runs if run is not None]
    assert await told(desk) == [(_K.RUN_FAILED, id) for id in ids] + [(_K.INGESTION_ERROR, ids[-1])]
    data = list(desk.database.state.delivery_data.values())
    assert data[0]["run"] == {
        "status": "FAILED",
        "trigger": "MANUAL",
        "filesProcessed": 0,
        "filesFailed": 0,
        "rowsWritten": 0,
        "errorMessage": "the store is away",
    }
    assert data[-1]["consecutiveFailures"] == 3
    assert {entry["ingestion"]["name"] for entry in data} == {ingestion.name}


async def test_good_runs_are_told_to_nobody(desk: Desk) -> None:
    await desk.create(_K.RUN_FAILED, _K.RUN_PARTIAL)
    ingestion = await desk.bench.ingestion()
    desk.bench.land("a.json")
    assert (await desk.bench.execute(ingestion)).status is RunStatus.SUCCESS
    assert (await desk.bench.execute(ingestion)).status is RunStatus.NO_NEW_FILES
    assert await told(desk) == []


def ended(status: RunStatus, **fields: Any) -> tuple[Ingestion, Run]:
    ingestion = an_ingestion()
    return ingestion, a_run(ingestion_id=ingestion.id, status=status, ended_at=NOW, **fields)


@pytest.mark.parametrize("status", list(RunStatus))
def test_which_ends_are_told(status: RunStatus) -> None:
    event = run_ended(*ended(status), at=NOW)
    assert (event and event.kind) == {RunStatus.FAILED: _K.RUN_FAILED, RunStatus.PARTIAL: _K.RUN_PARTIAL}.get(status)


async def test_new_schema_versions_are_told_with_their_differences(desk: Desk) -> None:
    await desk.create(_K.SCHEMA_CHANGED)
    ingestion = await desk.bench.ingestion()
    desk.bench.land("a.json")
    run = await desk.bench.execute(ingestion)
    assert await told(desk) == [(_K.SCHEMA_CHANGED, run.id)]
    [data] = desk.database.state.delivery_data.values()
    assert data["schema"]["version"] == 1


def test_of_many_columns_some_are_told() -> None:
    before, after = a_schema("id: int", "old"), a_schema("id: long", *(f"c{number}" for number in range(200)))
    version = a_schema_version(version=2, schema=after, diff=SchemaDiff.between(before, after))
    schema = schema_changed(an_ingestion(), version).data["schema"]
    assert (schema["version"], len(schema["added"]), schema["complete"]) == (2, NAMED_COLUMNS, False)
    assert schema["added"][0] == {"name": "c0", "type": "long"}
    assert schema["removed"] == [{"name": "old", "type": "long"}]
    assert schema["changed"] == [{"name": "id", "before": "int", "after": "long"}]
    few = a_schema_version(schema=a_schema("id"))
    assert schema_changed(an_ingestion(), few).data["schema"]["complete"] is True


def test_a_proposed_schema_change_is_told_with_what_it_would_add() -> None:
    change = a_schema_change(changes=(*new_columns("extra: string"), ColumnChange("n", "int", "long")), example_path="s3://b/x")
    event = schema_change_proposed(an_ingestion(name="events"), change)
    assert (event.kind, event.at, event.run_id) == (_K.SCHEMA_CHANGE_PROPOSED, change.proposed_at, change.run_id)
    assert event.data == {
        "ingestion": {"name": "events"},
        "schema": {
            "added": [{"name": "extra", "type": "string"}],
            "removed": [],
            "changed": [{"name": "n", "before": "int", "after": "long"}],
            "complete": True,
            "examplePath": "s3://b/x",
        },
    }


async def test_a_schema_change_is_told_once_when_it_is_proposed(desk: Desk) -> None:
    asking = Policies(schema_evolution=SchemaEvolution.REQUIRE_APPROVAL)
    ingestion = await desk.bench.ingestion(policies=asking)
    desk.bench.land("a")
    await desk.bench.execute(ingestion)
    await desk.create(_K.SCHEMA_CHANGE_PROPOSED)
    for path in desk.bench.land("b", "c"):
        desk.bench.engine.needing[path] = new_columns("extra")[0]
    run = await desk.bench.execute(ingestion)
    assert run.files_held == 2
    assert await told(desk) == [(_K.SCHEMA_CHANGE_PROPOSED, run.id)]


def test_bodies_stay_small() -> None:
    wide = a_schema(*(f"{number:0>255}: decimal(38, 10)" for number in range(2_000)))
    events = [
        schema_changed(an_ingestion(), a_schema_version(schema=wide)),
        ingestion_failed(*ended(RunStatus.FAILED, error_message="x" * 4_000), failures=5, at=NOW),
        data_late(an_ingestion(), at=NOW),
    ]
    assert max(len(json.dumps(event.data)) for event in events) < 20_000


class TestLateness:
    async def ingestion(self, desk: Desk, **fields: Any) -> Ingestion:
        given = {"status": IngestionStatus.ACTIVE, "schedule": a_schedule(), "policies": Policies(late_after_seconds=3_600)}
        ingestion = await desk.bench.ingestion(**given | fields)
        async with desk.bench.unit_of_work(ingestion.tenant_id) as tx:
            await tx.ingestions.expect_data(ingestion.id)
        return ingestion

    async def tell(self, desk: Desk) -> int:
        return await LatenessService(desk.bench.unit_of_work, desk.bench.clock).tell(desk.bench.directory)

    async def test_data_that_do_not_come_are_told_of_once(self, desk: Desk) -> None:
        await desk.create(_K.DATA_LATE)
        ingestion = await self.ingestion(desk)
        desk.database.clock.advance(seconds=3_590)
        assert await self.tell(desk) == 0
        desk.database.clock.advance(seconds=20)
        assert await self.tell(desk) == 1
        assert [await self.tell(desk) for _ in range(3)] == [0, 0, 0]
        [delivery] = desk.deliveries()
        assert (delivery.event, delivery.ingestion_id, delivery.run_id) == (_K.DATA_LATE, ingestion.id, None)
        assert desk.database.state.delivery_data[delivery.id] == {"ingestion": {"name": ingestion.name}, "lateAfterSeconds": 3_600}
        assert desk.queued() == [(Topic.DELIVERY, delivery.id)]

    async def test_a_loaded_file_begins_the_wait_anew_and_a_run_without_one_does_not(self, desk: Desk) -> None:
        ingestion = await self.ingestion(desk)
        desk.database.clock.advance(seconds=3_000)
        await desk.bench.execute(ingestion)
        desk.database.clock.advance(seconds=700)
        assert await self.tell(desk) == 1
        desk.bench.land("a.json")
        assert (await desk.bench.execute(ingestion)).status is RunStatus.SUCCESS
        desk.database.clock.advance(seconds=3_000)
        assert await self.tell(desk) == 0
        desk.database.clock.advance(seconds=700)
        assert await self.tell(desk) == 1

    async def test_data_are_expected_from_the_start_from_each_resumption_and_from_each_change(self, desk: Desk) -> None:
        bench, late_at = desk.bench, lambda: list(desk.database.state.late_at.values())
        bench.stores.add_location(BUCKET)
        service = IngestionService(bench.unit_of_work, bench.stores, bench.clock, Checkpoints("file:///checkpoints"))
        given = {"schedule": {"cron": "0 * * * *"}, "policies": {"late_after_seconds": 3_600}}
        ingestion = await service.create_ingestion(desk.principal, IngestionCreate.parse(a_create_input(**given)))
        assert late_at() == []
        await service.activate(desk.principal, ingestion.id)
        [first] = late_at()
        await service.pause(desk.principal, ingestion.id)
        assert late_at() == []
        desk.database.clock.advance(seconds=60)
        await service.resume(desk.principal, ingestion.id)
        [second] = late_at()
        assert timedelta(seconds=60) < second - first < timedelta(seconds=61)
        for change, waits in (({"name": "other"}, 0), ({"policies": {"late_after_seconds": 7_200}}, 3_600), ({"schedule": None}, None)):
            await service.update_ingestion(desk.principal, ingestion.id, IngestionUpdate.parse(change))
            assert [round((at - second).total_seconds()) for at in late_at()] == ([] if waits is None else [waits])

    async def test_one_that_cannot_be_told_of_does_not_keep_the_others_waiting(self, desk: Desk) -> None:
        await desk.create(_K.DATA_LATE)
        first, second = [await self.ingestion(desk) for _ in range(2)]
        desk.database.clock.advance(seconds=4_000)

        class Late:
            async def late_ingestions(self, limit: int) -> Sequence[Subject]:
                return [Subject(uuid4(), uuid4()), *(Subject(i.tenant_id, i.id) for i in (first, second))]

        service = LatenessService(desk.bench.unit_of_work, desk.bench.clock)
        assert await service.tell(Late()) == 2  # type: ignore[arg-type]
        assert {delivery.ingestion_id for delivery in desk.deliveries()} == {first.id, second.id}
