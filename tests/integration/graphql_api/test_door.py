"""Which requests are answered at all: methods, content types, the page for people."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from graphql_api.app import create_app
from graphql_api.http import MAX_BODY_BYTES, RESPONSE_TYPE
from tests.fixtures.api import Api, Client

NEW = {"accept": RESPONSE_TYPE}
PAUSE = 'mutation { pauseIngestion(id: "x") { ... on Error { code } } }'
BODY = json.dumps({"query": PAUSE}).encode()


def headers(client: Client, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {client.key}", **NEW} | more


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/x-www-form-urlencoded", b"query=mutation"),
        ("application/x-www-form-urlencoded", BODY),
        ("text/plain", BODY),
        ("text/plain; application/json", BODY),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="operations"\r\n\r\n' + BODY + b"\r\n--x--\r\n"),
        ("application/graphql", PAUSE.encode()),
        ("", BODY),
    ],
)
async def test_what_a_page_from_elsewhere_could_send_unasked_is_refused(client: Client, content_type: str, content: bytes) -> None:
    answer = await client.http.post("/graphql", content=content, headers=headers(client, **{"content-type": content_type}))
    assert (answer.status_code, answer.json()) == (400, {"errors": [{"message": "Unsupported content type"}]})


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
async def test_json_is_taken(client: Client, content_type: str) -> None:
    answer = await client.http.post("/graphql", content=BODY, headers=headers(client, **{"content-type": content_type}))
    assert (answer.status_code, answer.json()["data"]) == (200, {"pauseIngestion": {"code": "NOT_FOUND"}})


@pytest.mark.parametrize("document", [PAUSE, "query A { __typename } " + PAUSE.replace("mutation", "mutation B")])
async def test_get_changes_nothing(client: Client, document: str) -> None:
    params = {"query": document} | ({"operationName": "B"} if "B" in document else {})
    answer = await client.http.get("/graphql", params=params, headers=headers(client))
    assert (answer.status_code, answer.json()) == (400, {"errors": [{"message": "mutations are not allowed when using GET"}]})


async def test_several_operations_in_a_request_are_refused(client: Client) -> None:
    answer = await client.http.post("/graphql", json=[{"query": "{ __typename }"}] * 2, headers=headers(client))
    assert (answer.status_code, answer.json()) == (400, {"errors": [{"message": "Batching is not enabled"}]})


async def test_a_get_without_a_query_is_told_so(client: Client) -> None:
    for accept in ("*/*", RESPONSE_TYPE):
        answer = await client.http.get("/graphql", headers=headers(client, accept=accept))
        assert (answer.status_code, answer.json()) == (400, {"errors": [{"message": "No GraphQL query found in the request"}]})


async def test_a_body_of_fifty_megabytes_is_not_read_to_its_end(client: Client) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(50):
            sent += 1_000_000
            yield b" " * 1_000_000

    answer = await client.http.post("/graphql", content=body(), headers=headers(client, **{"content-type": "application/json"}))
    assert (answer.status_code, answer.json()) == (
        413,
        {"errors": [{"message": f"The request's body is larger than {MAX_BODY_BYTES} bytes."}]},
    )
    assert sent <= 3_000_000


async def test_graphiql_can_be_turned_off(api: Api) -> None:
    async def ready() -> None:
        pass

    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(api.services, ready=ready, ide=False)), base_url="http://api.test"
    ) as http:
        page = await http.get("/graphql", headers=browser)
        assert (page.status_code, page.text) == (404, "GraphiQL is not served here\n")
        assert (await http.get("/graphql/assets/bootstrap.js")).status_code == 404
    assert (await api.http.get("/graphql/assets/bootstrap.js")).status_code == 200
