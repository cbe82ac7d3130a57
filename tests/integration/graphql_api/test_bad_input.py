"""Bad input of every kind: a clear error in bounded time, nothing internal, and a server that goes on."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from graphql_api.http import RESPONSE_TYPE
from graphql_api.relay.ids import KINDS
from tests.fixtures.api import Answer, Api, Client
from tests.integration.graphql_api.test_every_operation import Victim, codes, victim  # noqa: F401  # a fixture
from tests.integration.graphql_api.walk import Operation, spoiled

NEW = {"accept": RESPONSE_TYPE}
SECONDS = 20.0


@pytest.fixture(autouse=True)
async def _goes_on(client: Client) -> AsyncIterator[None]:
    yield
    assert await client.data("{ __typename ingestions { totalCount } }") == {"__typename": "Query", "ingestions": {"totalCount": 0}}


async def post(client: Client, content: bytes, **headers: str | bytes) -> Answer:
    base = {"authorization": f"Bearer {client.key}", "content-type": "application/json", **NEW}
    async with asyncio.timeout(SECONDS):
        response = await client.http.post("/graphql", content=content, headers=base | headers)
    return Answer(response.status_code, response.json(), response.headers)


def is_refused(answer: Answer) -> bool:
    """Whether it is a 4xx with a short GraphQL error, and nothing else."""
    return 400 <= answer.status < 500 and bool(answer.errors) and len(json.dumps(answer.body)) < 20_000 and "INTERNAL" not in codes(answer)


NESTED = 10_000
BODIES: dict[str, bytes] = {
    "JSON, nested": b'{"query": ' + b"[" * NESTED + b"]" * NESTED + b"}",
    "JSON, nested and open": b'{"a":' * NESTED,
    "variables, nested past the parser": b'{"query": "{ __typename }", "variables": {"a": ' + b"[" * NESTED + b"]" * NESTED + b"}}",
    "variables, nested past our limit": b'{"query": "{ __typename }", "variables": {"a": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}}",
    "extensions that are no object": b'{"query": "{ __typename }", "extensions": 3}',
    "an operation name that is none": b'{"query": "{ __typename }", "operationName": "Other"}',
    "an operation name that is a number": b'{"query": "query A { __typename }", "operationName": 3}',
    "an operation name that is a list": b'{"query": "query A { __typename }", "operationName": ["A"]}',
    "variables that are a text": b'{"query": "{ __typename }", "variables": "{}"}',
    "a lone surrogate in the document": b'{"query": "{ node(id: \\"\\ud800\\") { id } }"}',
    "a lone surrogate in a variable": b'{"query": "query ($id: ID!) { node(id: $id) { id } }", "variables": {"id": "\\udfff"}}',
    "a lone surrogate's escape in a text": b'{"query": "{ node(id: \\"\\\\ud800\\") { id } }"}',
    "bytes that are no UTF-8": b'{"query": "{ node(id: \\"\xff\\") { id } }"}',
    "a NUL in the document": b'{"query": "{ \\u0000 }"}',
    "a BOM": b"\xef\xbb\xbf{",
    "NaN": b'{"query": "{ __typename }", "variables": {"a": NaN}}',
    "an unknown field": b'{"query": "{ nothing }"}',
    "a wrong type": b'{"query": "{ ingestions(first: \\"x\\") { totalCount } }"}',
    "a variable of the wrong type": b'{"query": "query ($n: Int) { ingestions(first: $n) { totalCount } }", "variables": {"n": {"a": []}}}',
    "a variable that is missing": b'{"query": "query ($id: ID!) { node(id: $id) { id } }"}',
    "an integer past its range": b'{"query": "{ ingestions(first: 2147483648) { totalCount } }"}',
    "an integer of ten thousand digits": b'{"query": "{ ingestions(first: ' + b"9" * NESTED + b') { totalCount } }"}',
    "a variable past its range": b'{"query": "query ($n: Int) { ingestions(first: $n) { totalCount } }", "variables": {"n": 1e300}}',
    "only a fragment": b'{"query": "fragment A on Query { __typename }"}',
    "a type definition": b'{"query": "type A { b: Int }"}',
    "an empty document": b'{"query": " "}',
    "@skip without its argument": b'{"query": "{ __typename @skip }"}',
    "@include of a text": b'{"query": "query ($x: Boolean!) { __typename @include(if: $x) }", "variables": {"x": "yes"}}',
    "a subscription": b'{"query": "subscription { activity { __typename } }"}',
    "hidden incremental delivery": b'{"query": "{ ... @defer { __typename } }"}',
}
DOCUMENTS: dict[str, str] = {
    "nested ten thousand times": "{ viewer " * NESTED + "}" * NESTED,
    "ten thousand aliases": "{" + " ".join(f"a{i}: __typename" for i in range(NESTED)) + "}",
    "a thousand aliases": "{" + " ".join(f"a{i}: __typename" for i in range(1_000)) + "}",
    "a cyclic fragment": "{ ...A } fragment A on Query { ...B } fragment B on Query { viewer { tenant } ...A }",
    "exponential fragments": "{ ...F0 }"
    + "".join(f" fragment F{i} on Query {{ ...F{i + 1} ...F{i + 1} ...F{i + 1} }}" for i in range(90))
    + ' fragment F90 on Query { ingestion(id: "x") { id } }',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_bad_request_is_refused(client: Client, body: bytes) -> None:
    answer = await post(client, body)
    assert is_refused(answer), answer


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
async def test_a_hostile_document_is_refused(client: Client, document: str) -> None:
    answer = await post(client, json.dumps({"query": document}).encode())
    assert is_refused(answer), answer


async def test_a_list_is_as_long_as_a_body(client: Client) -> None:
    document = "mutation ($ids: [ID!]) { retryFiles(input: {ids: $ids}) { ... on Error { message } ... on FilesChanged { count } } }"
    refused = {"message": "ids: at most 1000 at once"}
    for count, result in ((1_000, {"count": 0}), (1_001, refused), (90_000, refused)):
        assert await client.data(document, {"ids": ["nothing"] * count}) == {"retryFiles": result}
    too_long = json.dumps({"query": document, "variables": {"ids": ["nothing"] * 100_000}}).encode()
    assert (await post(client, too_long)).status == 413


@pytest.mark.parametrize("token", ["al_", "al_0_0", "al_\x7f_x", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.", "a.b.c", "x" * 50_000, "\xe9"])
async def test_a_credential_that_is_none_lets_nobody_in(client: Client, token: str) -> None:
    answer = await post(client, b'{"query": "{ __typename }"}', authorization=f"Bearer {token}".encode("latin-1"))
    assert (answer.status, set(answer.body)) == (401, {"errors"})


@dataclass(frozen=True)
class Bad:
    scalar: str
    value: Any

    def __str__(self) -> str:
        return f"{self.scalar} {str(self.value)[:20]!r}"


def _id(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def _nested(levels: int) -> Any:
    return {"a": _nested(levels - 1)} if levels else 1


VALUES: dict[str, tuple[Any, ...]] = {
    "String": ("a\0b", "", " ", "é\u202e\ufffe", "x" * 100_000, "{" * 5_000, "*" * 2_000, "../../etc/passwd", "s3://"),
    "ID": ("", "\0", "x" * 100_000, _id("Ingestion:"), _id("ProcessedFile:-1"), _id(f"ProcessedFile:{2**63}"), _id("Run:\0")),
    "Int": (2**31 - 1, -(2**31), 2**31, -1, 0),
    "BigInt": (2**63 - 1, -(2**63), 2**63, -1, 0),
    "DateTime": ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "0001-01-01T00:00:00Z", "\0", "now"),
    "JSON": ({"a\0": "\0"}, {"a": 10**30}, {"a": -(10**30)}, _nested(40), [], "text", None, {"delimiter": "\0"}, {"x" * 200: 1}),
}
BAD = [Bad(scalar, value) for scalar, values in VALUES.items() for value in values]


@pytest.mark.parametrize("bad", BAD, ids=str)
async def test_bad_values_in_every_input_of_every_operation_are_typed_errors(api: Api, victim: Victim, bad: Bad) -> None:  # noqa: F811
    operations = [operation for operation in spoiled(bad.scalar, bad.value) if operation.root != "Subscription"]
    assert len(operations) > 1
    for operation in operations:
        answer = await _answer(victim, operation)
        shown = codes(answer)
        assert answer.status < 500, (operation, answer)
        assert "INTERNAL" not in shown, (operation, answer)
        assert len(json.dumps(answer.body)) < 300_000, operation


@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_nul_is_never_taken(api: Api, victim: Victim, kind: str) -> None:  # noqa: F811
    answer = await victim.admin.send("query ($id: ID!) { node(id: $id) { id } }", {"id": victim.ids[kind] + "\0"})
    assert answer.data == {"node": None}


async def _answer(victim: Victim, operation: Operation) -> Answer:  # noqa: F811
    async with asyncio.timeout(SECONDS):
        return await victim.admin.send(operation.document(victim.ids), **NEW)
