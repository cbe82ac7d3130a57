"""The same idempotency key, from many callers at once: one thing is made, and all are answered with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import func, select, update

from domain.ingestions.entities import Ingestion
from domain.runs.entities import Run, RunStatus
from graphql_api.relay.ids import encode_id
from persistence.tables import audit_events, idempotency_keys, ingestions, outbox, runs
from tests.factories import a_create_input
from tests.fixtures.api import Api, Client
from tests.integration.graphql_api.test_reads import fill

CALLERS = 50
DOCUMENT = """
mutation ($input: %s!) {
  made: %s(input: $input) {
    __typename
    ... on Node { id }
    ... on Error { code message }
    ... on ConflictError { reason }
  }
}
"""


@dataclass(frozen=True)
class There:
    """Two ingestions, a run of each that has failed, and a folder that may be read."""

    ingestions: list[str]
    runs: list[str]
    landing: str


@dataclass(frozen=True)
class Case:
    """`inputs` gives two different inputs of the mutation, made of what there is."""

    mutation: str
    input_type: str
    inputs: Callable[[There], tuple[dict[str, Any], dict[str, Any]]]
    made: str


def _creation(landing: str, name: str) -> dict[str, Any]:
    return a_create_input(name=name, source={"type": "LOCAL", "path": landing}, destination={"database": "lake", "table": name})


CASES = [
    Case(
        "createIngestion",
        "CreateIngestionInput",
        lambda there: (_creation(there.landing, "one"), _creation(there.landing, "two")),
        "Ingestion",
    ),
    Case(
        "runIngestion",
        "RunIngestionInput",
        lambda there: ({"ingestionId": there.ingestions[0]}, {"ingestionId": there.ingestions[1]}),
        "Run",
    ),
    Case("retryRun", "RetryRunInput", lambda there: ({"runId": there.runs[0]}, {"runId": there.runs[1]}), "Run"),
]


async def what_is_there(api: Api, client: Client) -> There:
    made = await fill(api, client, parents=2, runs_each=1)
    async with api.database.begin() as connection:
        await connection.execute(update(runs).values(status=RunStatus.FAILED))
        rows = (await connection.execute(select(runs.c.ingestion_id, runs.c.id))).all()
    run_of = {row.ingestion_id: row.id for row in rows}
    return There([encode_id(Ingestion, one.id) for one in made], [encode_id(Run, run_of[one.id]) for one in made], str(api.landing))


async def rows(api: Api) -> Mapping[str, int]:
    """How many there are of what these mutations make."""
    async with api.database.connect() as connection:
        return {
            table.name: await connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (ingestions, runs, outbox, idempotency_keys, audit_events)
        }


def caller(client: Client, case: Case, key: str) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]:
    async def call(input: dict[str, Any]) -> dict[str, Any]:
        data = await client.data(DOCUMENT % (case.input_type, case.mutation), {"input": input | {"idempotencyKey": key}})
        return dict(data["made"])

    return call


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.mutation)
async def test_many_at_once_make_one_thing(api: Api, client: Client, case: Case) -> None:
    one, _ = case.inputs(await what_is_there(api, client))
    call, before = caller(client, case, "mine"), await rows(api)
    answers = await asyncio.gather(*(call(one) for _ in range(CALLERS)))
    assert {answer["__typename"] for answer in answers} == {case.made}
    assert len({answer["id"] for answer in answers}) == 1
    after = await rows(api)
    made = {"Ingestion": "ingestions", "Run": "runs"}[case.made]
    assert {name: after[name] - before[name] for name in (made, "idempotency_keys", "audit_events")} == {
        made: 1,
        "idempotency_keys": 1,
        "audit_events": 1,
    }
    assert await call(one) == answers[0]
    assert await rows(api) == after


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.mutation)
async def test_another_input_under_the_key_is_a_conflict(api: Api, client: Client, case: Case) -> None:
    one, other = case.inputs(await what_is_there(api, client))
    call = caller(client, case, "mine")
    first = await call(one)
    assert first["__typename"] == case.made
    before = await rows(api)
    answers = await asyncio.gather(*(call(other) for _ in range(CALLERS)))
    assert {(answer["__typename"], answer["code"], answer["reason"]) for answer in answers} == {
        ("ConflictError", "CONFLICT", "IDEMPOTENCY_KEY_REUSED")
    }
    assert await rows(api) == before
    assert await call(one) == first


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.mutation)
async def test_of_two_inputs_at_once_one_has_the_key(api: Api, client: Client, case: Case) -> None:
    inputs = case.inputs(await what_is_there(api, client))
    call = caller(client, case, "mine")
    answers = await asyncio.gather(*(call(inputs[turn % 2]) for turn in range(CALLERS)))
    sides = [{answer["__typename"] for answer in answers[turn::2]} for turn in (0, 1)]
    assert sorted(map(sorted, sides)) == sorted([["ConflictError"], [case.made]])
    assert len({answer["id"] for answer in answers if answer["__typename"] == case.made}) == 1


async def test_another_tenant_may_use_the_same_key(api: Api, client: Client) -> None:
    stranger = await api.client()
    answers = [await caller(one, CASES[0], "mine")(_creation(str(api.landing), name)) for one, name in ((client, "one"), (stranger, "two"))]
    assert [answer["__typename"] for answer in answers] == ["Ingestion", "Ingestion"]
    assert answers[0]["id"] != answers[1]["id"]
