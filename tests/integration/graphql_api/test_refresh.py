"""refreshIngestion, clearProcessedFiles, deleteIngestion: what they answer, store and leave alone."""

from __future__ import annotations

from typing import Any

import pytest

from domain.tenants import Role
from tests.fixtures.api import Api, Client
from tests.integration.graphql_api.documents import CHANGE_STATUS, RUN, create

REFRESH = """
mutation Refresh($input: RefreshIngestionInput!) {
  refreshIngestion(input: $input) {
    __typename
    ... on Refresh {
      plan { mode tableExists rowsDropped filesForgotten filesAbsent filesWaiting generation }
      run { id status trigger refresh { mode load } }
    }
    ... on Error { code message }
    ... on ConflictError { reason }
  }
}
"""
CLEAR = """
mutation Clear($input: ClearProcessedFilesInput!) {
  clearProcessedFiles(input: $input) {
    __typename
    ... on FilesCleared { count }
    ... on Error { code message }
    ... on ConflictError { reason }
    ... on ValidationError { fields { path message } }
  }
}
"""
DELETE = """
mutation Delete($input: DeleteIngestionInput!) {
  deleteIngestion(input: $input) {
    __typename
    ... on Ingestion { id status resetPending }
    ... on Error { code message }
    ... on ConflictError { reason }
  }
}
"""


async def do(client: Client, document: str, **input: Any) -> dict[str, Any]:
    [answer] = (await client.data(document, {"input": input})).values()
    return dict(answer)


async def stored(api: Api) -> dict[str, int]:
    """How much there is of what an operation would leave."""
    tables = ("runs", "outbox", "audit_events", "idempotency_keys")
    return {table: await api.scalar(f"SELECT count(*) FROM {table}") for table in tables}


@pytest.mark.scenario(150)
async def test_a_refresh_that_is_not_confirmed_is_refused_and_does_nothing(api: Api, client: Client) -> None:
    created = await create(api, client)
    before = await stored(api)
    answer = await do(client, REFRESH, ingestionId=created["id"], mode="FULL", idempotencyKey="k")
    assert answer == {
        "__typename": "ConfirmationRequiredError",
        "code": "CONFIRMATION_REQUIRED",
        "message": "a refresh drops the table: confirm it, or ask for a dry run",
    }
    assert await stored(api) == before
    assert await api.scalar("SELECT reset FROM ingestions") is None


@pytest.mark.scenario(22)
async def test_a_dry_run_answers_the_plan_and_stores_nothing(api: Api, client: Client) -> None:
    created = await create(api, client)
    before = await stored(api)
    answer = await do(client, REFRESH, ingestionId=created["id"], mode="FULL", dryRun=True)
    assert answer == {
        "__typename": "Refresh",
        "plan": {
            "mode": "FULL",
            "tableExists": False,
            "rowsDropped": 0,
            "filesForgotten": 0,
            "filesAbsent": 0,
            "filesWaiting": 0,
            "generation": 2,
        },
        "run": None,
    }
    assert await stored(api) == before


async def test_a_confirmed_refresh_is_queued_as_a_run(api: Api, client: Client) -> None:
    created = await create(api, client)
    answer = await do(client, REFRESH, ingestionId=created["id"], mode="NEW_ONLY", confirm=True, autoRun=False)
    assert {name: answer["run"][name] for name in ("status", "trigger", "refresh")} == {
        "status": "QUEUED",
        "trigger": "REFRESH",
        "refresh": {"mode": "NEW_ONLY", "load": False},
    }
    # Nothing has begun: that is the run's to do.
    assert await api.scalar("SELECT reset IS NULL AND generation = 1 FROM ingestions")
    assert await api.scalar("SELECT count(*) FROM outbox WHERE topic = 'RUN'") == 1
    assert await api.scalar("SELECT operation FROM audit_events ORDER BY id DESC LIMIT 1") == "refreshIngestion"
    again = await do(client, REFRESH, ingestionId=created["id"], mode="FULL", confirm=True)
    assert (again["__typename"], again["reason"]) == ("ConflictError", "RUN_ACTIVE")


async def test_a_clear_asks_for_confirmation_and_an_idle_ingestion(api: Api, client: Client) -> None:
    created = await create(api, client)
    before = await stored(api)
    unconfirmed = await do(client, CLEAR, ingestionId=created["id"])
    assert (unconfirmed["__typename"], unconfirmed["code"]) == ("ConfirmationRequiredError", "CONFIRMATION_REQUIRED")
    nul = await do(client, CLEAR, ingestionId=created["id"], confirm=True, pathPrefix="a\0")
    assert (nul["__typename"], [field["path"] for field in nul["fields"]]) == ("ValidationError", [["pathPrefix"]])
    assert await stored(api) == before
    await client.data(RUN, {"input": {"ingestionId": created["id"]}})
    busy = await do(client, CLEAR, ingestionId=created["id"], confirm=True)
    assert (busy["__typename"], busy["reason"]) == ("ConflictError", "RUN_ACTIVE")
    assert await api.scalar("SELECT reset FROM ingestions") is None


async def test_a_clear_is_decided_at_once_and_done_afterwards(api: Api, client: Client) -> None:
    created = await create(api, client)
    assert await do(client, CLEAR, ingestionId=created["id"], confirm=True) == {"__typename": "FilesCleared", "count": 0}
    pending = await client.data("query ($id: ID!) { ingestion(id: $id) { resetPending checkpointPath } }", {"id": created["id"]})
    assert pending["ingestion"]["resetPending"] is True
    assert pending["ingestion"]["checkpointPath"] == created["checkpointPath"].removesuffix("/1") + "/2"
    assert await api.scalar("SELECT operation FROM audit_events ORDER BY id DESC LIMIT 1") == "clearProcessedFiles"


async def test_a_deletion_passes_through_deleting(api: Api, client: Client) -> None:
    created = await create(api, client, activate=True, schedule={"cron": "0 3 * * *"})
    deleted = await do(client, DELETE, id=created["id"])
    assert deleted == {"__typename": "Ingestion", "id": created["id"], "status": "DELETING", "resetPending": True}
    assert await api.scalar("SELECT next_due_at FROM ingestions") is None
    for document, variables in (
        (DELETE, {"input": {"id": created["id"]}}),
        (RUN, {"input": {"ingestionId": created["id"]}}),
        (REFRESH, {"input": {"ingestionId": created["id"], "mode": "FULL", "confirm": True}}),
        (CLEAR, {"input": {"ingestionId": created["id"], "confirm": True}}),
        (CHANGE_STATUS % "activateIngestion", {"id": created["id"]}),
    ):
        [answer] = (await client.data(document, variables)).values()
        assert (answer["__typename"], answer["message"]) == ("NotFoundError", "ingestion not found")


async def test_an_operator_destroys_nothing(api: Api, client: Client) -> None:
    created = await create(api, client)
    operator = await api.client(role=Role.OPERATOR, tenant=client.tenant)
    before = await stored(api)
    for document, input in (
        (REFRESH, {"ingestionId": created["id"], "mode": "FULL", "confirm": True}),
        (CLEAR, {"ingestionId": created["id"], "confirm": True}),
        (DELETE, {"id": created["id"], "deleteTable": True}),
    ):
        assert (await do(operator, document, **input))["__typename"] == "ForbiddenError"
    assert await stored(api) == before
    assert await api.scalar("SELECT status FROM ingestions") == "DRAFT"
