"""update, activate, pause, resume, run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from domain.tenants import Role
from tests.fixtures.api import Api, Client
from tests.integration.graphql_api.documents import CHANGE_STATUS, RUN, create

UPDATE = """
mutation Update($input: UpdateIngestionInput!) {
  updateIngestion(input: $input) {
    __typename
    ... on Ingestion {
      name version status nextDueAt
      source { path glob } format { options } schedule { cron timezone }
      policies { badRows maxFileRetries maxFilesPerRun }
    }
    ... on Error { code message }
    ... on ValidationError { fields { path message } }
    ... on ConflictError { reason }
  }
}
"""


async def change(client: Client, mutation: str, id: str) -> dict[str, Any]:
    return dict((await client.data(CHANGE_STATUS % mutation, {"id": id}))[mutation])


async def update(client: Client, **fields: Any) -> dict[str, Any]:
    return dict((await client.data(UPDATE, {"input": fields}))["updateIngestion"])


@pytest.mark.scenario(13, 14)
async def test_a_draft_is_activated_paused_and_resumed(api: Api, client: Client) -> None:
    created = await create(api, client, schedule={"cron": "0 3 * * *"})
    activated = await change(client, "activateIngestion", created["id"])
    assert (activated["status"], activated["nextDueAt"][10:]) == ("ACTIVE", "T03:00:00Z")
    paused = await change(client, "pauseIngestion", created["id"])
    assert (paused["status"], paused["nextDueAt"], paused["checkpointPath"]) == ("PAUSED", None, created["checkpointPath"])
    resumed = await change(client, "resumeIngestion", created["id"])
    assert (resumed["status"], resumed["nextDueAt"]) == ("ACTIVE", activated["nextDueAt"])
    assert resumed["version"] == created["version"] + 3


@pytest.mark.parametrize("mutation", ["pauseIngestion", "resumeIngestion"])
async def test_what_the_status_does_not_allow_is_a_conflict(api: Api, client: Client, mutation: str) -> None:
    created = await create(api, client)
    answer = await change(client, mutation, created["id"])
    assert (answer["__typename"], answer["reason"]) == ("ConflictError", "WRONG_STATE")
    assert answer["message"].startswith("an ingestion that is DRAFT cannot be ")
    assert await api.scalar("SELECT status FROM ingestions") == "DRAFT"


async def test_an_update_changes_what_is_given_and_nothing_else(api: Api, client: Client) -> None:
    created = await create(api, client, activate=True, schedule={"cron": "0 3 * * *"}, policies={"maxFilesPerRun": 7})
    renamed = await update(client, id=created["id"], name="renamed")
    assert (renamed["name"], renamed["version"], renamed["source"]["glob"]) == ("renamed", 2, "**/*.json")
    assert renamed["policies"] == {"badRows": "FAIL_FILE", "maxFileRetries": 3, "maxFilesPerRun": 7}
    changed = await update(
        client, id=created["id"], glob=None, schedule={"cron": "30 4 * * *"}, policies={"badRows": "SKIP_ROW", "maxFilesPerRun": None}
    )
    assert changed["source"]["glob"] is None
    assert (changed["schedule"], changed["nextDueAt"][10:]) == ({"cron": "30 4 * * *", "timezone": "UTC"}, "T04:30:00Z")
    assert changed["policies"] == {"badRows": "SKIP_ROW", "maxFileRetries": 3, "maxFilesPerRun": None}
    unscheduled = await update(client, id=created["id"], schedule=None)
    assert (unscheduled["schedule"], unscheduled["nextDueAt"], unscheduled["version"]) == (None, None, 4)


async def test_a_stale_version_is_a_conflict(api: Api, client: Client) -> None:
    created = await create(api, client)
    await update(client, id=created["id"], expectedVersion=1, name="first")
    answer = await update(client, id=created["id"], expectedVersion=1, name="second")
    assert (answer["__typename"], answer["reason"]) == ("ConflictError", "STALE_VERSION")
    assert await api.scalar("SELECT name FROM ingestions") == "first"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"glob": "[a"}, ["glob"]),
        ({"schedule": {"cron": "x"}}, ["schedule", "cron"]),
        ({"formatOptions": {"nope": 1}}, ["formatOptions", "nope"]),
        ({"policies": {"maxFileRetries": 1000}}, ["policies", "maxFileRetries"]),
        ({"name": None}, ["name"]),
        ({"credential": "nope"}, ["credential"]),
    ],
)
async def test_a_bad_update_names_the_field(api: Api, client: Client, fields: dict[str, Any], path: list[str]) -> None:
    created = await create(api, client)
    answer = await update(client, id=created["id"], **fields)
    assert (answer["__typename"], [field["path"] for field in answer["fields"]]) == ("ValidationError", [path])
    assert await api.scalar("SELECT version FROM ingestions") == 1


@pytest.mark.scenario(9)
async def test_immutable_fields_are_not_in_the_input(api: Api, client: Client) -> None:
    created = await create(api, client)
    answer = await client.send(UPDATE, {"input": {"id": created["id"], "sourcePath": "/elsewhere"}})
    assert "sourcePath" in answer.errors[0]["message"]
    assert await api.scalar("SELECT version FROM ingestions") == 1


async def test_a_run_is_queued_once_and_handed_to_the_outbox(api: Api, client: Client) -> None:
    created = await create(api, client)
    ran = (await client.data(RUN, {"input": {"ingestionId": created["id"]}}))["runIngestion"]
    assert (ran["__typename"], ran["status"], ran["trigger"], ran["startedAt"], ran["progress"]) == ("Run", "QUEUED", "MANUAL", None, 0.0)
    assert ran["ingestion"] == {"id": created["id"], "name": "orders"}
    again = (await client.data(RUN, {"input": {"ingestionId": created["id"]}}))["runIngestion"]
    assert (again["__typename"], again["reason"]) == ("ConflictError", "RUN_ACTIVE")
    assert await api.scalar("SELECT count(*) FROM outbox WHERE topic = 'RUN'") == 1


async def test_of_concurrent_runs_one_is_made(api: Api, client: Client) -> None:
    created = await create(api, client)
    answers = await asyncio.gather(*(client.data(RUN, {"input": {"ingestionId": created["id"]}}) for _ in range(10)))
    kinds = [answer["runIngestion"]["__typename"] for answer in answers]
    assert sorted(kinds) == ["ConflictError"] * 9 + ["Run"]


async def test_a_repeated_run_request_gives_the_first_run(api: Api, client: Client) -> None:
    created = await create(api, client)
    request = {"input": {"ingestionId": created["id"], "idempotencyKey": "once"}}
    first, second = [(await client.data(RUN, request))["runIngestion"] for _ in range(2)]
    assert first["id"] == second["id"]
    assert await api.scalar("SELECT count(*) FROM runs") == 1


async def test_a_paused_ingestion_refuses_runs(api: Api, client: Client) -> None:
    created = await create(api, client, activate=True)
    await change(client, "pauseIngestion", created["id"])
    answer = (await client.data(RUN, {"input": {"ingestionId": created["id"]}}))["runIngestion"]
    assert (answer["__typename"], answer["reason"]) == ("ConflictError", "WRONG_STATE")
    assert await api.scalar("SELECT count(*) FROM runs") == 0


async def test_a_viewer_changes_nothing(api: Api, client: Client) -> None:
    created = await create(api, client)
    viewer = await api.client(role=Role.VIEWER, tenant=client.tenant)
    assert (await change(viewer, "activateIngestion", created["id"]))["__typename"] == "ForbiddenError"
    assert (await viewer.data(RUN, {"input": {"ingestionId": created["id"]}}))["runIngestion"]["__typename"] == "ForbiddenError"
    assert (await update(viewer, id=created["id"], name="x"))["__typename"] == "ForbiddenError"
    assert await api.scalar("SELECT status || version FROM ingestions") == "DRAFT1"
