"""Every operation of the schema: without credentials, with another tenant's ids, and with each role."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Table, cast, insert, literal_column, select
from sqlalchemy.types import Text
from strawberry.types import get_object_definition

from domain.access.entities import ApiKey, AuditEvent
from domain.ingestions.entities import Ingestion
from domain.ledger.entities import FileAttempt, FileStatus, ProcessedFile
from domain.notifications.entities import Webhook, WebhookDelivery
from domain.runs.entities import Run
from domain.schema_changes import SchemaChange
from domain.schema_versions import SchemaVersion
from domain.tenants import Role
from graphql_api.operations.authorization import NODE_ROLES, Follow
from graphql_api.operations.roles import operation_roles
from graphql_api.relay.ids import KINDS, encode_id
from graphql_api.schema import schema
from persistence.mapping import values_of
from persistence.tables import file_attempts, metadata, processed_files, runs, schema_changes, schema_versions
from tests.factories import a_schema_change, a_schema_version
from tests.fixtures.api import Answer, Api, Client
from tests.fixtures.streams import events, socket
from tests.integration.graphql_api.test_reads import fill
from tests.integration.graphql_api.walk import ROOTS, SCHEMA, Id, Operation, operations, plain, root_fields

ROLES = {(operation.root, operation.field): operation.role for operation in operation_roles()}
NOTHING = {kind: encode_id(entity, uuid4() if key is not int else 2**40) for kind, (entity, key) in KINDS.items()}
"""Ids that nothing has."""


@dataclass(frozen=True)
class Victim:
    """A tenant with something of every kind; `ids` by kind."""

    admin: Client
    ids: dict[str, str]


@pytest.fixture
async def victim(api: Api) -> Victim:
    admin = await api.client()
    [ingestion] = await fill(api, admin, parents=1)
    made = await admin.data('mutation { createApiKey(input: {name: "made", role: ADMIN}) { ... on CreatedApiKey { apiKey { id } } } }')
    version = a_schema_version(tenant_id=admin.tenant.id, ingestion_id=ingestion.id)
    change = a_schema_change(tenant_id=admin.tenant.id, ingestion_id=ingestion.id)
    async with api.database.begin() as connection:
        await connection.execute(insert(schema_versions).values(values_of(version, without=("id",))))
        await connection.execute(insert(schema_changes).values(values_of(change)))
        failed = select(processed_files.c.id).where(processed_files.c.status == FileStatus.FAILED)
        keys: dict[type, Any] = {
            Ingestion: ingestion.id,
            Run: await connection.scalar(select(runs.c.id).where(runs.c.tenant_id == admin.tenant.id).limit(1)),
            ProcessedFile: await connection.scalar(failed),
            FileAttempt: await connection.scalar(select(file_attempts.c.id).limit(1)),
            SchemaChange: change.id,
            SchemaVersion: await connection.scalar(select(schema_versions.c.id)),
        }
    url, events = "https://receiver.example/", "[RUN_FAILED]"
    hook = f'createWebhook(input: {{url: "{url}", events: {events}}}) {{ ... on CreatedWebhook {{ webhook {{ id }} }} }}'
    webhook = (await admin.data(f"mutation {{ {hook} }}"))["createWebhook"]["webhook"]["id"]
    trial = f'testWebhook(id: "{webhook}") {{ ... on WebhookDelivery {{ id }} }}'
    delivery = (await admin.data(f"mutation {{ {trial} }}"))["testWebhook"]["id"]
    trail = await admin.data("{ auditEvents { nodes { id } } }")
    ids = {entity: encode_id(entity, key) for entity, key in keys.items()}
    ids |= {Webhook: webhook, WebhookDelivery: delivery}
    ids |= {ApiKey: made["createApiKey"]["apiKey"]["id"], AuditEvent: trail["auditEvents"]["nodes"][0]["id"]}
    return Victim(admin, {kind: ids[entity] for kind, (entity, _) in KINDS.items()})


async def everything_of(api: Api, client: Client) -> dict[str, list[str]]:
    """All rows of the client's tenant."""

    def rows(table: Table) -> Any:
        whole = cast(literal_column(f'"{table.name}"'), Text)
        return select(whole).select_from(table).where(table.c.tenant_id == client.tenant.id).order_by(whole)

    owned = [table for table in metadata.sorted_tables if "tenant_id" in table.c]
    async with api.database.connect() as connection:
        return {table.name: list((await connection.scalars(rows(table))).all()) for table in owned}


def codes(answer: Answer) -> set[str]:
    """The codes of the answer's errors, those in unions too."""
    values = (answer.body.get("data") or {}).values()
    shown = {value["code"] for value in values if isinstance(value, dict) and "code" in value}
    return shown | {error.get("extensions", {}).get("code", error["message"]) for error in answer.errors}


async def ask(api: Api, client: Client, operation: Operation, ids: dict[str, str]) -> Answer:
    """The answer; of a subscription the first, or that it is open and has nothing to tell yet."""
    document = operation.document(ids)
    if operation.root != "Subscription":
        return await client.send(document)
    async with socket(api.app, authorization=f"Bearer {client.key}") as connected:
        assert await connected.init() == {"type": "connection_ack"}
        connected.subscribe(document)
        told, quiet = asyncio.create_task(connected.receive()), asyncio.create_task(api.notifications.quiet())
        await asyncio.wait([told, quiet], return_when=asyncio.FIRST_COMPLETED)
        # A follower waits when it has told what there is.
        body = _body(await told) if told.done() or connected.connection.outgoing.qsize() else {"data": {operation.field: "open"}}
        for task in (told, quiet):
            task.cancel()
        await asyncio.wait([told, quiet])
    await api.notifications.quiet(0)
    return Answer(200, body, httpx.Headers())


def _body(message: dict[str, Any]) -> dict[str, Any]:
    return message["payload"] if message["type"] == "next" else {"data": None, "errors": message["payload"]}


def with_ids() -> list[Operation]:
    return [operation for operation in operations() if operation.kinds]


def title(value: Any) -> str:
    return f"{value.name} {value.arguments}" if isinstance(value, Operation) else "-".join(map(str, value))


def test_every_mutation_and_every_node_kind_says_its_role() -> None:
    assert set(ROLES) == set(root_fields())
    assert set(NODE_ROLES) <= {entity for entity, _ in KINDS.values()}
    assert [name for root, name in ROLES if root == "Mutation" and ROLES[root, name] is Role.VIEWER] == []
    assert {root.name for root in (SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type) if root} == set(ROOTS)


def test_every_subscription_is_followed_within_the_limits_and_with_fresh_loaders() -> None:
    subscription = get_object_definition(schema.subscription, strict=True)
    assert {field.name for field in subscription.fields if not any(isinstance(e, Follow) for e in field.extensions)} == set()


@pytest.mark.scenario(148)
async def test_without_credentials_nothing_is_answered(api: Api, victim: Victim) -> None:
    before = await everything_of(api, victim.admin)
    for operation in operations():
        answer = await api.anonymous().send(operation.document(victim.ids))
        assert (answer.status, set(answer.body)) == (401, {"errors"}), operation.name
        async with events(api.app, operation.document(victim.ids)) as stream:
            assert stream.status == 401, operation.name
    async with socket(api.app) as connected:
        assert await connected.init() == {"close": 4403, "reason": "Forbidden"}
    assert await everything_of(api, victim.admin) == before


@pytest.mark.scenario(148)
@pytest.mark.parametrize("operation", with_ids(), ids=title)
async def test_anothers_ids_answer_like_ids_of_nothing(api: Api, victim: Victim, operation: Operation) -> None:
    stranger = await api.client()
    before = await everything_of(api, victim.admin)
    theirs = await ask(api, stranger, operation, victim.ids)
    nothing = await ask(api, stranger, operation, NOTHING)
    assert theirs.body == nothing.body
    assert "INTERNAL" not in codes(theirs)
    assert await everything_of(api, victim.admin) == before
    # The ids are good: for their owner there is something (unless the operation refuses such input whatever the id).
    own = await ask(api, victim.admin, operation, victim.ids)
    assert own.body != nothing.body or codes(nothing) == {"VALIDATION"}


@pytest.mark.parametrize("field", [field for field in ROLES if ROLES[field] is not Role.VIEWER], ids=title)
async def test_a_lesser_role_is_forbidden_and_changes_nothing(api: Api, victim: Victim, field: tuple[str, str]) -> None:
    operation = plain(*field)
    clients = {role: await api.client(role=role, tenant=victim.admin.tenant) for role in Role}
    before = await everything_of(api, victim.admin)
    for role in Role:
        if not role.includes(ROLES[field]):
            assert codes(await ask(api, clients[role], operation, victim.ids)) == {"FORBIDDEN"}, role
    assert await everything_of(api, victim.admin) == before
    assert codes(await ask(api, clients[ROLES[field]], operation, victim.ids)).isdisjoint({"FORBIDDEN", "INTERNAL"})


async def test_a_viewer_may_read_what_asks_for_no_more(api: Api, victim: Victim) -> None:
    viewer = await api.client(role=Role.VIEWER, tenant=victim.admin.tenant)
    before = await everything_of(api, victim.admin)
    for field, least in ROLES.items():
        if least is Role.VIEWER:
            assert codes(await ask(api, viewer, plain(*field), victim.ids)) <= {"UNAVAILABLE"}, field
    assert await everything_of(api, victim.admin) == before


@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_node_asks_for_the_role_of_its_kind(api: Api, victim: Victim, kind: str) -> None:
    least = NODE_ROLES.get(KINDS[kind][0], Role.VIEWER)
    operation = Operation("Query", "node", {"id": Id(kind)})
    for role in Role:
        client = await api.client(role=role, tenant=victim.admin.tenant)
        answer = await client.send(operation.document(victim.ids))
        nothing = await client.send(operation.document(NOTHING))
        if role.includes(least):
            assert answer.data["node"]["id"] == victim.ids[kind]
            assert nothing.data["node"] is None
        else:
            assert answer.body == nothing.body
            assert codes(answer) == {"FORBIDDEN"}
