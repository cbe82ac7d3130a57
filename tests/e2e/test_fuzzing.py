"""Queries and mutations made up from the live schema, sent to a running server: whatever they ask, nothing internal breaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import Path

import httpx
import pytest
import requests
import schemathesis
from graphql import NameNode, ObjectFieldNode
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.graphql import nodes

from autoloader.settings import Settings
from autoloader.stack import running_stack
from graphql_api.http import RESPONSE_TYPE
from tests.integration.graphql_api.documents import CREATE

SEED = 20_130_101
EXAMPLES = 15
"""For each operation: some 400 requests in all."""


def _scalars(ids: Sequence[str]) -> None:
    """What the schema does not tell: how its scalars are written. Half of the ids are of something."""
    text = st.text(st.characters(codec="utf-8"), max_size=20)
    json = st.dictionaries(st.from_regex("[a-z_]{1,9}", fullmatch=True), st.booleans() | st.integers() | text, max_size=3)
    schemathesis.graphql.scalar("ID", (st.sampled_from(ids) | text).map(nodes.String))
    schemathesis.graphql.scalar("BigInt", st.integers(-(2**63), 2**63 - 1).map(nodes.Int))
    schemathesis.graphql.scalar("DateTime", st.datetimes(timezones=st.just(UTC)).map(lambda moment: nodes.String(moment.isoformat())))
    schemathesis.graphql.scalar("JSON", json.map(_object))


def _object(values: dict[str, bool | int | str]) -> object:
    kinds = {bool: nodes.Boolean, int: nodes.Int, str: nodes.String}
    fields = [ObjectFieldNode(name=NameNode(value=name), value=kinds[type(value)](value)) for name, value in values.items()]
    return nodes.Object(fields)


def _fuzz(url: str, key: str, ids: Sequence[str]) -> Counter[tuple[str, str]]:
    """How often each operation was executed, and how often refused. Fails with the document at the first thing internal."""
    headers = {"authorization": f"Bearer {key}", "accept": RESPONSE_TYPE}
    _scalars(ids)
    seen: Counter[tuple[str, str]] = Counter()

    def ask(label: str, document: str) -> None:
        answer = session.post(url, json={"query": document}, headers=headers, timeout=30)
        assert answer.status_code < 500, (answer.text, document)
        assert '"INTERNAL"' not in answer.text, (answer.text, document)
        seen[label, "executed" if "data" in answer.json() else "refused"] += 1

    with requests.Session() as session:
        schema = schemathesis.graphql.from_url(url, headers=headers)
        for operation in (found.ok() for found in schema.get_all_operations()):
            _each(operation.as_strategy(), lambda case, label=operation.label: ask(label, case.body))
    return seen


def _each(cases: st.SearchStrategy[schemathesis.Case], ask: Callable[[schemathesis.Case], None]) -> None:
    """The same examples each time; the first that fails is reported as it is."""

    @seed(SEED)
    @settings(max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(cases)
    def asks(case: schemathesis.Case) -> None:
        ask(case)

    asks()


async def test_whatever_is_asked_nothing_internal_breaks(tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    wide = Settings(
        home=tmp_path / "home", database_url=database_url, port=0, max_operation_cost=10**9, cost_per_second=1e9, cost_burst=1e9
    )
    async with running_stack(wide) as stack, httpx.AsyncClient(headers={"authorization": f"Bearer {stack.key}"}) as http:
        input = {
            "name": "fuzzed",
            "source": {"type": "LOCAL", "path": str(wide.landing)},
            "format": {"type": "JSON"},
            "destination": {"database": "lake", "table": "fuzzed"},
        }
        created = await http.post(f"{stack.url}/graphql", json={"query": CREATE, "variables": {"input": input}})
        id = created.json()["data"]["createIngestion"]["id"]
        seen = await asyncio.to_thread(_fuzz, f"{stack.url}/graphql", stack.key, [id])
        healthy = await http.post(f"{stack.url}/graphql", json={"query": "{ viewer { tenant } ingestions { totalCount } }"})
    labels = {label for label, _ in seen}
    assert {"Query.ingestions", "Mutation.createIngestion"} < labels
    assert [label for label in labels if seen[label, "executed"] == 0] == []
    assert healthy.json()["data"]["viewer"] == {"tenant": "local"}
    assert [record for record in caplog.records if record.message.startswith("unexpected error")] == []
