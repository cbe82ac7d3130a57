"""What is seen of operations: request ids, the fields of log lines, counts by kind and outcome, slow ones."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest

import graphql_api.observation
from domain.errors import UnavailableError
from graphql_api.app import create_app
from integrations.telemetry.metrics import Metrics
from integrations.telemetry.recorder import Recorder
from tests.fixtures.api import Api, Client
from tests.fixtures.log_lines import LogLines


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def measured(api: Api, client: Client, metrics: Metrics) -> AsyncIterator[Client]:
    """The client, of an API that counts."""

    async def ready() -> None: ...

    app = create_app(dataclasses.replace(api.services, telemetry=Recorder(metrics, None)), ready=ready)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as http:
        yield dataclasses.replace(client, http=http)


def counts(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Label values and how many were observed, of a histogram."""
    return {
        tuple(value for label, value in sorted(sample.labels.items())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"autoloader_{name}_count"
    }


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def raising(*_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("persistence.reader.SqlReader.pages", raising)


async def test_the_callers_request_id_is_used_and_told(client: Client) -> None:
    answer = await client.send("{ viewer { tenant } }", **{"x-request-id": "web-1:2.3_4"})
    assert answer.headers.get_list("x-request-id") == ["web-1:2.3_4"]


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a;b", 'a"', "a\tb", "ä"])
async def test_an_ill_formed_request_id_is_replaced(client: Client, given: str) -> None:
    answer = await client.http.post("/graphql", headers=[("x-request-id", given.encode())], json={})
    [told] = answer.headers.get_list("x-request-id")
    assert len(told) == 32
    assert told != given


async def test_of_two_request_ids_none_is_used(client: Client) -> None:
    answer = await client.http.get("/healthz", headers=[("x-request-id", "one"), ("x-request-id", "two")])
    [told] = answer.headers.get_list("x-request-id")
    assert told not in ("one", "two")


async def test_a_refusal_and_a_missing_page_tell_the_id_too(api: Api) -> None:
    for path in ("/graphql", "/nowhere"):
        assert (await api.http.get(path, headers={"x-request-id": "r"})).headers["x-request-id"] == "r"


async def test_a_line_within_an_operation_says_whose_and_which(client: Client, broken: None, log_lines: LogLines) -> None:
    await client.send("query Dashboard { ingestions { nodes { id } } }", **{"x-request-id": "r-7"})
    [entry] = log_lines.by("graphql_api.masking")
    assert {name: entry[name] for name in ("request_id", "tenant", "operation", "operation_kind")} == {
        "request_id": "r-7",
        "tenant": str(client.tenant.id),
        "operation": "Dashboard",
        "operation_kind": "query",
    }
    assert f"[request_id=r-7 tenant={client.tenant.id} operation=Dashboard operation_kind=query]" in log_lines.text.getvalue()


async def test_what_one_request_binds_is_not_the_nexts(client: Client, log_lines: LogLines) -> None:
    await client.send("query Dashboard { viewer { tenant } }")
    logging.getLogger("test").info("afterwards")
    assert set(log_lines.by("test")[0]) == {"time", "level", "logger", "message"}


@pytest.mark.parametrize("forged", ["A\n2026-01-01 00:00:00,000 ERROR domain forged", "\x1b[2K\rforged", "\u2028forged"])
async def test_a_client_forges_no_line(api: Api, client: Client, broken: None, log_lines: LogLines, forged: str) -> None:
    document = "query A { ingestions { nodes { id } } }"
    headers = {"authorization": f"Bearer {client.key}"}
    await api.http.post("/graphql", json={"query": document, "operationName": forged}, headers=headers)
    await api.http.post("/graphql", json={"query": document, "variables": {forged: forged}}, headers=headers)
    await api.http.get(f"/{quote(forged)}", headers=[("authorization", b"Bearer " + forged.encode().replace(b"\n", b" "))])
    lines = log_lines.text.getvalue().split("\n")[:-1]
    assert len(lines) > 0
    for line in lines:
        assert line.isprintable()
        assert line.startswith(("  | ", "20"))
    assert not any(line.startswith("2026-01-01 00:00:00,000 ERROR") for line in lines)


async def test_operations_are_counted_by_kind_and_outcome(measured: Client, metrics: Metrics) -> None:
    await measured.send("query A { viewer { tenant } }")
    await measured.send('mutation B { pauseIngestion(id: "x") { __typename } }')
    await measured.send("{ nothing }")
    await measured.send("{")
    await measured.send("{ viewer { tenant } }", {"not": "needed"})
    # A typed refusal is an answer.
    assert counts(metrics, "operation_seconds") == {("query", "ok"): 2, ("mutation", "ok"): 1, ("none", "refused"): 2}


@pytest.mark.parametrize("error", [RuntimeError("out of order"), UnavailableError("the database is not available")])
async def test_what_somebody_should_look_at_is_an_error(
    measured: Client, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def raising(*_: object) -> None:
        raise error

    monkeypatch.setattr("persistence.reader.SqlReader.pages", raising)
    await measured.send("{ ingestions { nodes { id } } }")
    assert counts(metrics, "operation_seconds") == {("query", "error"): 1}
    [(labels, count)] = counts(metrics, "loader_batch_seconds").items()
    assert (labels, count) == (("ingestions", "error"), 1)


async def test_a_mutation_by_get_is_refused(measured: Client, metrics: Metrics) -> None:
    mutation = 'mutation { pauseIngestion(id: "x") { __typename } }'
    await measured.http.get("/graphql", params={"query": mutation}, headers={"authorization": f"Bearer {measured.key}"})
    assert counts(metrics, "operation_seconds") == {("none", "refused"): 1}


async def test_no_label_holds_what_a_client_chose(measured: Client, metrics: Metrics) -> None:
    await measured.send("query ChosenByMe($v: ID!) { alias: ingestion(id: $v) { name } }", {"v": "chosen-value"})
    labels = {value for family in metrics.registry.collect() for sample in family.samples for value in sample.labels.values()}
    assert not any("hosen" in value or "alias" in value or str(measured.tenant.id) in value for value in labels)


async def test_a_slow_operation_is_told_of(client: Client, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch) -> None:
    document = "query Slowly($n: Int!) { ingestions(first: $n) { totalCount nodes { id } } }"
    await client.send(document, {"n": 7})
    assert log_lines.by("graphql_api.observation") == []
    monkeypatch.setattr(graphql_api.observation, "SLOW_SECONDS", 0.0)
    await client.send(document, {"n": 7})
    [entry] = log_lines.by("graphql_api.observation")
    assert (entry["level"], entry["operation"]) == ("WARNING", "Slowly")
    assert entry["message"].startswith("slow query: 0.")
    assert entry["message"].endswith(" seconds, 2 loader batches")
