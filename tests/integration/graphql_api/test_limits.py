"""What is refused as a whole, over HTTP: by cost, by rate, by time, and questions about the schema."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from graphql import get_introspection_query
from sqlalchemy import text

from graphql_api.http import RESPONSE_TYPE
from graphql_api.limits.limits import Limits
from graphql_api.limits.rate import CostRate
from persistence.database import connection
from persistence.reader import SqlReader
from persistence.repositories.scope import TenantScope
from tests.fixtures.api import Api, Client
from tests.fixtures.limited import limited
from tests.fixtures.statements import Statements
from tests.integration.graphql_api.documents import CREATE, an_input

NEW = {"accept": RESPONSE_TYPE}
PAGE = "query ($n: Int) { ingestions(first: $n) { nodes { id } } }"


async def test_the_cost_is_told_with_the_answer(client: Client) -> None:
    answer = await client.send(PAGE, {"n": 7})
    assert answer.body["extensions"] == {"cost": {"requested": 8, "limit": Limits().operation_cost}}


async def test_what_costs_too_much_is_refused_before_anything_runs(api: Api, statements: Statements) -> None:
    async with limited(api, Limits(operation_cost=10)) as client:
        assert (await client.send(PAGE, {"n": 9}, **NEW)).status == 200
        statements.watch(api.database)
        with statements.exactly(1):  # the key
            answer = await client.send(PAGE, {"n": 10}, **NEW)
    message = "The operation costs 12, more than 10: ask for shorter pages, or for less below them."
    assert (answer.status, answer.body) == (
        400,
        {
            "errors": [{"message": message, "extensions": {"code": "LIMIT_EXCEEDED"}}],
            "extensions": {"cost": {"requested": 12, "limit": 10}},
        },
    )


async def test_a_mutation_that_costs_too_much_changes_nothing(api: Api) -> None:
    async with limited(api, Limits(operation_cost=10)) as client:
        answer = await client.send(CREATE, {"input": an_input(api)})
    assert [error["extensions"]["code"] for error in answer.errors] == ["LIMIT_EXCEEDED"]
    assert await api.scalar("SELECT count(*) FROM ingestions") == 0


async def test_a_cost_past_all_numbers_is_told_and_refused(client: Client) -> None:
    fragments = "".join(f" fragment F{i} on Query {{ {f'...F{i + 1} ' * 10} }}" for i in range(39))
    answer = await client.send("{ ...F0 }" + fragments + " fragment F39 on Query { viewer { tenant } }", **NEW)
    assert (answer.status, answer.body["extensions"]["cost"]["requested"]) == (400, 2**53 - 1)


async def test_who_asks_for_too_much_in_a_while_is_told_when_to_come_back(api: Api) -> None:
    seconds = 0.0
    async with limited(api, Limits(rate=CostRate(10, 25, lambda: seconds))) as client:
        assert [(await client.send(PAGE, {"n": 9}, **NEW)).status for _ in range(3)] == [200, 200, 429]
        refused = await client.send(PAGE, {"n": 9}, **NEW)
        old = await client.send(PAGE, {"n": 9}, accept="application/json")
        other = dataclasses.replace(await api.client(), http=client.http)
        assert (await other.send(PAGE, {"n": 9}, **NEW)).status == 200
        seconds += 0.5
        assert (await client.send(PAGE, {"n": 9}, **NEW)).status == 200
    assert (refused.status, refused.headers["retry-after"], old.status) == (429, "1", 200)
    message = "Your tenant asks for more than it may in so short a time; try again in 0.5 seconds."
    assert refused.errors == old.errors == [{"message": message, "extensions": {"code": "LIMIT_EXCEEDED", "retryAfterSeconds": 0.5}}]
    assert "data" not in refused.body


async def test_an_operation_that_was_refused_takes_nothing_from_the_bucket(api: Api) -> None:
    async with limited(api, Limits(operation_cost=20, rate=CostRate(1, 25, lambda: 0.0))) as client:
        for _ in range(5):
            assert (await client.send(PAGE, {"n": 100}, **NEW)).status == 400
        assert (await client.send(PAGE, {"n": 17}, **NEW)).status == 200


async def test_questions_about_the_schema_can_be_turned_off(api: Api) -> None:
    async with limited(api, Limits(introspection=False)) as client:
        refused = await client.send(get_introspection_query(), **NEW)
        assert (refused.status, [error["extensions"]["code"] for error in refused.errors]) == (403, ["FORBIDDEN"])
        assert (await client.data("{ viewer { __typename } }")) == {"viewer": {"__typename": "Viewer"}}
    async with limited(api, Limits()) as client:
        assert len((await client.data(get_introspection_query()))["__schema"]["types"]) > 100


async def sleepers(api: Api) -> int:
    """How many statements sleep in the database; the one that asks has the word in it too."""
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep%'"
    return int(await api.scalar(sleeping)) - 1


async def test_an_operation_that_takes_too_long_is_stopped_in_the_database_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asleep(reader: SqlReader, *_: object) -> None:
        async with connection(reader._engine, reader._tenant_id) as opened:
            await opened.execute(text("SELECT pg_sleep(25)"))

    with monkeypatch.context() as patched:
        patched.setattr(SqlReader, "pages", asleep)
        async with limited(api, Limits(seconds=1)) as client:
            answer = await client.send("{ ingestions { nodes { id } } viewer { tenant } runs { nodes { id } } }", **NEW)
            message = "The operation took longer than 1 seconds, and was stopped."
            assert (answer.status, answer.body["errors"]) == (503, [{"message": message, "extensions": {"code": "LIMIT_EXCEEDED"}}])
        # Well before they would have ended by themselves.
        async with asyncio.timeout(10):
            while await sleepers(api):
                pass
    # The connections that were in use are good, or replaced: more than the pool holds are asked for at once.
    healthy = await api.client()
    answers = await asyncio.gather(*(healthy.data("{ ingestions { totalCount nodes { id } } }") for _ in range(25)))
    assert answers == [{"ingestions": {"totalCount": 0, "nodes": []}}] * 25


async def test_a_mutation_that_takes_too_long_has_changed_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asleep(scope: TenantScope) -> None:
        await scope.connection.execute(text("SELECT pg_sleep(25)"))

    monkeypatch.setattr("persistence.unit_of_work.store_activity", asleep)
    async with limited(api, Limits(seconds=1)) as client:
        answer = await client.send(CREATE, {"input": an_input(api)}, **NEW)
    assert (answer.status, [error["extensions"]["code"] for error in answer.errors]) == (503, ["LIMIT_EXCEEDED"])
    assert await api.scalar("SELECT count(*) FROM ingestions") == 0
