"""API keys through the API: given out once, listed without their secrets, taken back; and the trail that this leaves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.tenants import Role
from tests.fixtures.api import Api, Client
from tests.integration.graphql_api import documents

CREATE = """
mutation Create($input: CreateApiKeyInput!) {
  createApiKey(input: $input) {
    __typename
    ... on CreatedApiKey { secret apiKey { id name prefix role createdAt expiresAt lastUsedAt revokedAt } }
    ... on Error { code message }
    ... on ValidationError { fields { path message } }
  }
}
"""
REVOKE = """
mutation Revoke($id: ID!) {
  revokeApiKey(id: $id) {
    __typename
    ... on ApiKey { id revokedAt }
    ... on Error { code message }
    ... on ConflictError { reason }
  }
}
"""
LIST = "query List($first: Int) { apiKeys(first: $first) { totalCount nodes { id name prefix role expiresAt lastUsedAt revokedAt } } }"
TRAIL = """
query Trail($filter: AuditEventFilter) {
  auditEvents(filter: $filter) { totalCount nodes { at actor operation subjectId apiKeyId } }
}
"""
WHO = "{ viewer { tenant role } }"


async def create(client: Client, **fields: Any) -> dict[str, Any]:
    return dict((await client.data(CREATE, {"input": {"name": "ci", "role": "VIEWER"} | fields}))["createApiKey"])


async def revoke(client: Client, id: str) -> dict[str, Any]:
    return dict((await client.data(REVOKE, {"id": id}))["revokeApiKey"])


async def own_key(client: Client) -> str:
    """The id of the only key that the tenant has."""
    [key] = (await client.data(LIST))["apiKeys"]["nodes"]
    return str(key["id"])


async def test_a_created_key_lets_in_with_its_role_and_its_secret_is_nowhere_else(api: Api, client: Client) -> None:
    created = await create(client, role="OPERATOR", expiresAt="2999-01-01T00:00:00Z")
    secret, key = created["secret"], created["apiKey"]
    assert secret.startswith(f"al_{key['prefix']}_")
    assert (key["name"], key["role"], key["expiresAt"], key["lastUsedAt"], key["revokedAt"]) == (
        "ci",
        "OPERATOR",
        "2999-01-01T00:00:00Z",
        None,
        None,
    )
    holder = Client(api.http, client.tenant, secret)
    assert await holder.data(WHO) == {"viewer": {"tenant": client.tenant.name, "role": "OPERATOR"}}
    listed = await client.send(LIST)
    assert listed.data["apiKeys"]["totalCount"] == 2
    assert listed.data["apiKeys"]["nodes"][0]["id"] == key["id"]
    for text in (str(listed.body), *[str(row) for row in await rows(api, "SELECT api_keys::text FROM api_keys")]):
        assert secret.split("_", 2)[2] not in text
    node = await client.data("query ($id: ID!) { node(id: $id) { ... on ApiKey { name role } } }", {"id": key["id"]})
    assert node == {"node": {"name": "ci", "role": "OPERATOR"}}


async def rows(api: Api, statement: str) -> list[Any]:
    from sqlalchemy import text

    async with api.database.connect() as connection:
        return list((await connection.execute(text(statement))).all())


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"name": "\0"}, ["name"]),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, ["expiresAt"]),
    ],
)
async def test_a_bad_key_names_the_field_and_is_not_made(api: Api, client: Client, fields: dict[str, Any], path: list[str]) -> None:
    answer = await create(client, **fields)
    assert (answer["__typename"], [field["path"] for field in answer["fields"]]) == ("ValidationError", [path])
    assert await api.scalar("SELECT count(*) FROM api_keys") == 1
    assert await api.scalar("SELECT count(*) FROM audit_events") == 0


async def test_an_expired_key_lets_nobody_in(api: Api, client: Client) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    holder = Client(api.http, client.tenant, (await create(client, expiresAt=soon.isoformat()))["secret"])
    assert (await holder.send(WHO)).status == 200
    await rows_changed(api, "UPDATE api_keys SET expires_at = now() WHERE role = 'VIEWER'")
    assert (await holder.send(WHO)).status == 401


async def rows_changed(api: Api, statement: str) -> None:
    from sqlalchemy import text

    async with api.database.begin() as connection:
        await connection.execute(text(statement))


async def test_a_revoked_key_lets_nobody_in_and_stays_in_the_list(api: Api, client: Client) -> None:
    created = await create(client)
    holder = Client(api.http, client.tenant, created["secret"])
    assert (await holder.send(WHO)).status == 200
    revoked = await revoke(client, created["apiKey"]["id"])
    assert (revoked["__typename"], revoked["id"]) == ("ApiKey", created["apiKey"]["id"])
    assert (await holder.send(WHO)).status == 401
    assert (await client.data(LIST))["apiKeys"]["nodes"][0]["revokedAt"] == revoked["revokedAt"]
    assert await revoke(client, created["apiKey"]["id"]) == revoked
    assert await api.scalar("SELECT count(*) FROM audit_events WHERE operation = 'revokeApiKey'") == 1


async def test_the_last_admin_key_cannot_be_revoked_with_a_key(api: Api, client: Client) -> None:
    mine = await own_key(client)
    await create(client, role="OPERATOR")
    answer = await revoke(client, mine)
    assert (answer["__typename"], answer["reason"]) == ("ConflictError", "LAST_ADMIN_KEY")
    assert (await client.send(WHO)).status == 200
    assert (await create(client, role="ADMIN"))["__typename"] == "CreatedApiKey"
    assert (await revoke(client, mine))["__typename"] == "ApiKey"
    assert (await client.send(WHO)).status == 401


async def test_admins_who_revoke_each_other_at_once_leave_one(api: Api, client: Client) -> None:
    admins = [client, *[await api.client(tenant=client.tenant) for _ in range(3)]]
    ids = [key["id"] for key in (await client.data(LIST))["apiKeys"]["nodes"]]
    await asyncio.gather(*(admin.send(REVOKE, {"id": id}) for admin, id in zip(admins, ids, strict=True)))
    assert await api.scalar("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL") == 1


async def test_another_tenants_key_is_like_none(api: Api, client: Client) -> None:
    theirs = await own_key(await api.client())
    nothing = {"__typename": "NotFoundError", "code": "NOT_FOUND", "message": "API key not found"}
    assert [await revoke(client, id) for id in (theirs, "nonsense", "")] == [nothing] * 3
    assert await client.data("query ($id: ID!) { node(id: $id) { id } }", {"id": theirs}) == {"node": None}
    assert await api.scalar("SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL") == 0


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_only_admins_see_or_change_keys_and_the_trail(api: Api, client: Client, role: Role) -> None:
    key = await own_key(client)
    other = await api.client(role=role, tenant=client.tenant)
    assert (await create(other))["__typename"] == (await revoke(other, key))["__typename"] == "ForbiddenError"
    for document in (LIST, TRAIL, f'{{ node(id: "{key}") {{ id }} }}'):
        answer = await other.send(document)
        assert [error["extensions"]["code"] for error in answer.errors] == ["FORBIDDEN"]
        assert not (answer.body["data"] or {}).get("node")


async def test_changes_leave_a_trail_of_who_did_what(api: Api, client: Client) -> None:
    mine = await own_key(client)
    key = (await create(client, role="ADMIN"))["apiKey"]["id"]
    await revoke(client, key)
    trail = (await client.data(TRAIL))["auditEvents"]
    assert trail["totalCount"] == 2
    assert [{name: event[name] for name in event if name != "at"} for event in trail["nodes"]] == [
        {"actor": "test", "operation": "revokeApiKey", "subjectId": key, "apiKeyId": mine},
        {"actor": "test", "operation": "createApiKey", "subjectId": key, "apiKeyId": mine},
    ]

    async def operations(**filter: Any) -> list[str]:
        nodes = (await client.data(TRAIL, {"filter": filter}))["auditEvents"]["nodes"]
        return [event["operation"] for event in nodes]

    assert await operations(operation=["createApiKey"]) == ["createApiKey"]
    assert await operations(subjectId=key, since=trail["nodes"][1]["at"]) == ["revokeApiKey", "createApiKey"]
    assert (
        await operations(subjectId=mine) == await operations(subjectId="nonsense") == await operations(until=trail["nodes"][1]["at"]) == []
    )
    answer = await client.send(TRAIL, {"filter": {"operation": ["\0"]}})
    assert answer.errors[0]["extensions"]["fields"] == [{"path": ["filter", "operation"], "message": "must not contain a NUL character"}]
    assert (await (await api.client()).data(TRAIL))["auditEvents"]["totalCount"] == 0


async def test_the_last_use_is_written_behind_the_requests(api: Api, client: Client) -> None:
    assert (await client.data(LIST))["apiKeys"]["nodes"][0]["lastUsedAt"] is None
    before = datetime.now(UTC)
    await client.data(WHO)
    await api.key_usage.flush()
    used = datetime.fromisoformat((await client.data(LIST))["apiKeys"]["nodes"][0]["lastUsedAt"])
    assert before <= used <= datetime.now(UTC)


async def test_every_kind_of_change_is_in_the_trail(api: Api, client: Client) -> None:
    ingestion = await documents.create(api, client)
    change = [documents.CHANGE_STATUS % f"{verb}Ingestion" for verb in ("activate", "pause", "resume")]
    for document in change:
        await client.data(document, {"id": ingestion["id"]})
    update = "mutation ($input: UpdateIngestionInput!) { updateIngestion(input: $input) { __typename } }"
    await client.data(update, {"input": {"id": ingestion["id"], "name": "renamed"}})
    run = (await client.data(documents.RUN, {"input": {"ingestionId": ingestion["id"]}}))["runIngestion"]
    cancel = "mutation ($id: ID!) { cancelRun(id: $id) { __typename } }"
    assert (await client.data(cancel, {"id": run["id"]}))["cancelRun"]["__typename"] == "Run"
    retry = "mutation ($id: ID!) { retryRun(input: {runId: $id}) { ... on Run { id } } }"
    again = (await client.data(retry, {"id": run["id"]}))["retryRun"]
    await client.data("mutation ($id: ID!) { retryFiles(input: {ingestionId: $id}) { __typename } }", {"id": ingestion["id"]})
    await client.data('mutation { skipFiles(input: {ids: ["nonsense"]}) { __typename } }')
    # What is refused changes nothing, and leaves no trail.
    assert (await client.data(change[0], {"id": ingestion["id"]}))["activateIngestion"]["__typename"] == "ConflictError"
    nodes = (await client.data(TRAIL))["auditEvents"]["nodes"]
    of_ingestion = ["createIngestion", "activateIngestion", "pauseIngestion", "resumeIngestion", "updateIngestion"]
    assert [(node["operation"], node["subjectId"]) for node in reversed(nodes)] == [
        *((operation, ingestion["id"]) for operation in of_ingestion),
        ("runIngestion", run["id"]),
        ("cancelRun", run["id"]),
        ("retryRun", again["id"]),
        ("retryFiles", ingestion["id"]),
        ("skipFiles", None),
    ]
