"""createIngestion: what is stored, and what is refused with nothing stored."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from domain.tenants import Role
from tests.fixtures.api import Api, Client
from tests.integration.graphql_api.documents import CREATE, an_input, create


@pytest.mark.scenario(1, 112)
async def test_a_valid_input_is_stored_as_a_draft_and_returned(api: Api, client: Client) -> None:
    created = await create(
        api,
        client,
        schedule={"cron": "*/5 * * * *", "timezone": "Europe/Berlin"},
        format={"type": "CSV", "options": {"delimiter": ";"}, "hints": [{"column": "ts", "type": "timestamptz"}]},
        policies={"maxFilesPerRun": 10, "maxBytesPerRun": 2**40},
    )
    moments = {name: created.pop(name) for name in ("createdAt", "updatedAt", "id", "checkpointPath")}
    assert moments["createdAt"] == moments["updatedAt"]
    assert created == {
        "__typename": "Ingestion",
        "name": "orders",
        "status": "DRAFT",
        "version": 1,
        "generation": 1,
        "nextDueAt": None,
        "source": {
            "type": "LOCAL",
            "path": str(api.landing),
            "glob": "**/*.json",
            "minAgeSeconds": 0,
            "discovery": "LISTING",
            "credential": None,
        },
        "format": {"type": "CSV", "options": {"delimiter": ";"}, "hints": [{"column": "ts", "type": "timestamptz"}]},
        "destination": {"catalog": "autoloader", "database": "sales", "table": "orders", "partitionBy": [], "sortBy": []},
        "schedule": {"cron": "*/5 * * * *", "timezone": "Europe/Berlin"},
        "policies": {
            "schemaEvolution": "ADD_NEW_COLUMNS",
            "badRows": "FAIL_FILE",
            "changedFiles": "IGNORE",
            "maxFileRetries": 3,
            "maxFilesPerRun": 10,
            "maxBytesPerRun": 2**40,
            "timeoutSeconds": None,
        },
        "execution": {"engine": "EMBEDDED", "clusterSize": "SMALL", "mode": "BATCH"},
    }
    again = await client.data("query ($id: ID!) { ingestion(id: $id) { name status } }", {"id": moments["id"]})
    assert again == {"ingestion": {"name": "orders", "status": "DRAFT"}}
    assert await api.scalar("SELECT count(*) FROM outbox WHERE topic = 'INGESTION'") == 1


@pytest.mark.scenario(3)
async def test_each_ingestion_has_a_checkpoint_path_of_its_own(api: Api, client: Client) -> None:
    first, second = await create(api, client, name="one"), await create(api, client, name="two")
    paths = {first["checkpointPath"], second["checkpointPath"]}
    assert len(paths) == 2
    assert all(re.fullmatch(rf"file:///checkpoints/{client.tenant.id}/[0-9a-f-]{{36}}/1", path) for path in paths)


async def test_activated_at_once_it_knows_its_next_firing(api: Api, client: Client) -> None:
    created = await create(api, client, activate=True, schedule={"cron": "0 3 * * *"})
    assert created["status"] == "ACTIVE"
    assert created["nextDueAt"].endswith("T03:00:00Z")


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "cron": ({"schedule": {"cron": "every day"}}, ["schedule", "cron"]),
    "cron of six fields": ({"schedule": {"cron": "* * * * * *"}}, ["schedule", "cron"]),
    "cron that never fires": ({"schedule": {"cron": "0 0 30 2 *"}}, ["schedule", "cron"]),
    "time zone": ({"schedule": {"cron": "* * * * *", "timezone": "Mars/Olympus"}}, ["schedule", "timezone"]),
    "relative path": ({"source": {"type": "LOCAL", "path": "files"}}, ["source", "path"]),
    "path outside the roots": ({"source": {"type": "LOCAL", "path": "/etc"}}, ["source", "path"]),
    "path with dots": ({"source": {"type": "LOCAL", "path": "/data/../etc"}}, ["source", "path"]),
    "path with NUL": ({"source": {"type": "LOCAL", "path": "/data\0"}}, ["source", "path"]),
    "S3 path": ({"source": {"type": "S3", "path": "bucket/prefix"}}, ["source", "path"]),
    "bucket name": ({"source": {"type": "S3", "path": "s3://B/x"}}, ["source", "path"]),
    "unsupported source": ({"source": {"type": "GCS", "path": "gs://bucket/x"}}, ["source", "type"]),
    "unknown credential": ({"source": {"type": "S3", "path": "s3://bucket/x", "credential": "nope"}}, ["source", "credential"]),
    "table identifier": ({"destination": {"database": "sales", "table": "drop table;"}}, ["destination", "table"]),
    "database identifier": ({"destination": {"database": "", "table": "t"}}, ["destination", "database"]),
    "unknown catalog": ({"destination": {"catalog": "other", "database": "sales", "table": "t"}}, ["destination", "catalog"]),
    "partition field": ({"destination": {"database": "d", "table": "t", "partitionBy": ["week(ts)"]}}, ["destination", "partitionBy"]),
    "unknown option": ({"format": {"type": "CSV", "options": {"seperator": ";"}}}, ["format", "options", "seperator"]),
    "option value": ({"format": {"type": "CSV", "options": {"delimiter": "::"}}}, ["format", "options", "delimiter"]),
    "hint": ({"format": {"type": "JSON", "hints": [{"column": "a", "type": "varchar"}]}}, ["format", "hints", "0", "type"]),
    "retries": ({"policies": {"maxFileRetries": -1}}, ["policies", "maxFileRetries"]),
    "empty name": ({"name": "  "}, ["name"]),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_input_names_the_field_and_nothing_is_stored(api: Api, client: Client, case: str) -> None:
    fields, path = BAD[case]
    answer = (await client.data(CREATE, {"input": an_input(api) | fields}))["createIngestion"]
    assert (answer["__typename"], answer["code"]) == ("ValidationError", "VALIDATION")
    assert [field["path"] for field in answer["fields"]] == [path]
    assert answer["fields"][0]["message"]
    assert await api.scalar("SELECT (SELECT count(*) FROM ingestions) + (SELECT count(*) FROM outbox)") == 0


async def test_a_bad_glob_names_the_glob(api: Api, client: Client) -> None:
    source = {"type": "LOCAL", "path": str(api.landing), "glob": "[a"}
    answer = (await client.data(CREATE, {"input": an_input(api, source=source)}))["createIngestion"]
    assert [field["path"] for field in answer["fields"]] == [["source", "glob"]]


async def test_an_unreachable_store_is_a_wrong_path(api: Api, client: Client) -> None:
    missing = {"type": "LOCAL", "path": str(api.landing / "nothing" / "here")}
    answer = (await client.data(CREATE, {"input": an_input(api, source=missing)}))["createIngestion"]
    assert [field["path"] for field in answer["fields"]] == [["source", "path"]]
    assert await api.scalar("SELECT count(*) FROM ingestions") == 0


async def test_names_are_unique_within_a_tenant_only(api: Api, client: Client) -> None:
    await create(api, client)
    taken = {"database": "sales", "table": "elsewhere"}
    answer = (await client.data(CREATE, {"input": an_input(api, destination=taken)}))["createIngestion"]
    assert (answer["__typename"], answer["reason"]) == ("ConflictError", "DUPLICATE_NAME")
    await create(api, await api.client(), destination={"database": "sales", "table": "elsewhere"})


async def test_a_destination_belongs_to_one_ingestion_of_all_tenants(api: Api, client: Client) -> None:
    await create(api, client)
    stranger = await api.client()
    answer = (await stranger.data(CREATE, {"input": an_input(api)}))["createIngestion"]
    assert (answer["__typename"], answer["reason"]) == ("ConflictError", "DESTINATION_TAKEN")
    assert await api.scalar("SELECT count(*) FROM ingestions") == 1


async def test_the_same_idempotency_key_gives_the_first_result(api: Api, client: Client) -> None:
    input = an_input(api, idempotencyKey="k-1")
    answers = await asyncio.gather(*(client.data(CREATE, {"input": input}) for _ in range(10)))
    assert len({answer["createIngestion"]["id"] for answer in answers}) == 1
    assert await api.scalar("SELECT count(*) FROM ingestions") == 1
    other = (await client.data(CREATE, {"input": input | {"name": "other"}}))["createIngestion"]
    assert (other["code"], other["reason"]) == ("CONFLICT", "IDEMPOTENCY_KEY_REUSED")


async def test_a_namespace_that_is_not_granted_is_refused(api: Api, client: Client) -> None:
    from dataclasses import replace

    grants = replace(client.tenant.grants, namespaces=("theirs",))
    await api.directory.ensure_tenant(replace(client.tenant, grants=grants))
    answer = (await client.data(CREATE, {"input": an_input(api)}))["createIngestion"]
    assert [field["path"] for field in answer["fields"]] == [["destination", "database"]]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_only_an_admin_may_create(api: Api, client: Client, role: Role) -> None:
    lesser = await api.client(role=role, tenant=client.tenant)
    answer = (await lesser.data(CREATE, {"input": an_input(api)}))["createIngestion"]
    assert (answer["__typename"], answer["code"]) == ("ForbiddenError", "FORBIDDEN")
    assert await api.scalar("SELECT count(*) FROM ingestions") == 0


@pytest.mark.scenario(149)
async def test_a_missing_required_field_is_a_graphql_validation_error(api: Api, client: Client) -> None:
    input = an_input(api)
    del input["source"]
    answer = await client.send(CREATE, {"input": input}, accept="application/graphql-response+json")
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("application/graphql-response+json")
    assert "source" in answer.errors[0]["message"]
    assert "data" not in answer.body or answer.body["data"] is None
    old_style = await client.send(CREATE, {"input": input}, accept="application/json")
    assert old_style.status == 200


async def test_an_engine_that_nobody_has_configured_is_refused_and_nothing_is_stored(api: Api, client: Client) -> None:
    answer = (await client.data(CREATE, {"input": an_input(api) | {"execution": {"engine": "SPARK"}}}))["createIngestion"]

    assert (answer["__typename"], answer["code"]) == ("UnsupportedError", "UNSUPPORTED")
    assert answer["message"] == "there is no SPARK engine here: nobody has configured one"
    assert await api.scalar("SELECT (SELECT count(*) FROM ingestions) + (SELECT count(*) FROM outbox)") == 0
