"""GraphQL over HTTP: what bad requests get, and that the server goes on serving."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from graphql_api.http import MAX_BODY_BYTES, RESPONSE_TYPE
from graphql_api.limits.depth import MAX_DEPTH
from graphql_api.limits.documents import MAX_ALIASES
from tests.fixtures.api import Api, Client

NEW = {"accept": RESPONSE_TYPE}


async def post(client: Client, content: bytes, **headers: str) -> Any:
    base = {"authorization": f"Bearer {client.key}", "content-type": "application/json"}
    return await client.http.post("/graphql", content=content, headers=base | headers)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"3",
        b'"text"',
        b"[]",
        b'{"query": 3}',
        b'{"query": "{ viewer { tenant } }", "variables": []}',
        b"\xff\xfe",
        b"{}",
    ],
)
async def test_a_malformed_request_is_a_400_with_a_graphql_error(client: Client, content: bytes) -> None:
    response = await post(client, content)
    assert response.status_code == 400
    assert response.json()["errors"][0]["message"]
    assert (await client.data("{ __typename }")) == {"__typename": "Query"}


WRONG = [
    "{",
    "{ nothing }",
    "{ viewer }",
    "query A { viewer { tenant } } query A { viewer { tenant } }",
    "{ ...A } fragment A on Query { ...A }",
]


@pytest.mark.parametrize("document", WRONG)
async def test_a_wrong_document_is_400_for_clients_of_the_new_type_and_200_for_old_ones(client: Client, document: str) -> None:
    new = await client.send(document, **NEW)
    assert (new.status, new.headers["content-type"]) == (400, f"{RESPONSE_TYPE}; charset=utf-8")
    old = await client.send(document, accept="application/json")
    assert (old.status, old.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert new.errors == old.errors != []


async def test_a_body_past_the_limit_is_refused(client: Client) -> None:
    response = await post(client, json.dumps({"query": "{ __typename }", "padding": "x" * MAX_BODY_BYTES}).encode())
    assert response.status_code == 413
    assert (await client.data("{ __typename }")) == {"__typename": "Query"}


async def test_deep_wide_and_long_documents_are_refused(client: Client) -> None:
    deep = "{ ingestions { nodes { lastRun { ingestion " + "{ lastRun { ingestion " * MAX_DEPTH + "{ id }" + "} }" * MAX_DEPTH + "} } } }"
    wide = "{" + " ".join(f"a{i}: __typename" for i in range(MAX_ALIASES + 1)) + "}"
    nested = "{" * 10_000
    for document in (deep, wide, nested, "{" + " __typename" * 10_000 + "}"):
        answer = await client.send(document, **NEW)
        assert answer.status == 400
        assert len(answer.errors) >= 1


async def test_get_answers_queries_and_refuses_mutations(client: Client) -> None:
    headers = {"authorization": f"Bearer {client.key}", **NEW}
    response = await client.http.get("/graphql", params={"query": "{ __typename }"}, headers=headers)
    assert (response.status_code, response.json()["data"]) == (200, {"__typename": "Query"})
    mutation = 'mutation { pauseIngestion(id: "x") { __typename } }'
    response = await client.http.get("/graphql", params={"query": mutation}, headers=headers)
    assert 400 <= response.status_code < 500


async def test_other_methods_and_content_types_are_refused(client: Client) -> None:
    headers = {"authorization": f"Bearer {client.key}"}
    assert (await client.http.put("/graphql", headers=headers)).status_code == 405
    form = await post(client, b"query={__typename}", **{"content-type": "application/x-www-form-urlencoded"})
    assert form.status_code == 400
    text = await post(client, b'{"query": "{ __typename }"}', **{"content-type": "text/plain"})
    assert text.status_code == 400


async def test_an_unexpected_error_is_masked_and_logged_under_its_id(
    api: Api, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr("persistence.reader.SqlReader.pages", broken)
    answer = await client.send("{ ingestions { nodes { id } } }")
    [error] = answer.errors
    assert error["message"] == "Internal error. The server's log tells more under its id."
    assert error["extensions"]["code"] == "INTERNAL"
    assert "secret" not in json.dumps(answer.body)
    assert error["extensions"]["errorId"] in caplog.text
    assert "the secret is 42" in caplog.text


async def test_a_database_that_is_down_is_a_coded_error_without_a_trace(api: Api, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise OperationalError("connect", None, ConnectionRefusedError("10.0.0.7:5432 as admin"))

    monkeypatch.setattr("sqlalchemy.ext.asyncio.AsyncEngine.connect", down)
    answer = await client.send("{ viewer { tenant } }")
    assert answer.status == 503
    assert answer.body == {"errors": [{"message": "the database is not available", "extensions": {"code": "UNAVAILABLE"}}]}


async def test_the_probes_need_no_key(api: Api) -> None:
    assert (await api.http.get("/healthz")).text == "alive\n"
    assert (await api.http.get("/readyz")).text == "ready\n"


async def test_a_browser_gets_graphiql(api: Api) -> None:
    page = await api.http.get("/graphql", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "al_" not in page.text
