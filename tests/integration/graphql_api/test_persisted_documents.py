"""Documents that are sent by their ids, and who may send others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from domain.tenants import Role
from graphql_api.http import RESPONSE_TYPE
from graphql_api.limits.limits import Limits
from graphql_api.limits.manifest import id_of
from tests.fixtures.api import Api, Client
from tests.fixtures.limited import limited

NEW = {"accept": RESPONSE_TYPE}
PAGE = "query Page($n: Int) { ingestions(first: $n) { nodes { id } } }"
WHO = "query Who { viewer { role } } query Whose { viewer { tenant } }"
PAUSE = 'mutation { pauseIngestion(id: "x") { ... on Error { code } } }'
DOCUMENTS = {id_of(document): document for document in (PAGE, WHO, PAUSE)}


@pytest.fixture
async def viewer(api: Api) -> AsyncIterator[Client]:
    """A VIEWER where documents of one's own need an ADMIN."""
    async with limited(api, Limits(documents=DOCUMENTS, free_documents_role=Role.ADMIN), role=Role.VIEWER) as client:
        yield client


def headers(client: Client) -> dict[str, str]:
    return {"authorization": f"Bearer {client.key}", **NEW}


async def post(client: Client, **body: Any) -> httpx.Response:
    return await client.http.post("/graphql", json=body, headers=headers(client))


async def get(client: Client, **params: str) -> httpx.Response:
    return await client.http.get("/graphql", params=params, headers=headers(client))


async def test_a_document_is_sent_by_its_id(viewer: Client) -> None:
    posted = await post(viewer, documentId=id_of(PAGE), variables={"n": 3})
    assert (posted.status_code, posted.json()["data"]) == (200, {"ingestions": {"nodes": []}})
    assert posted.json()["extensions"]["cost"]["requested"] == 4
    assert (await post(viewer, documentId=id_of(WHO), operationName="Who")).json()["data"] == {"viewer": {"role": "VIEWER"}}
    got = await get(viewer, documentId=id_of(PAGE), variables='{"n": 4}')
    assert (got.status_code, got.json()["extensions"]["cost"]["requested"]) == (200, 5)
    # Where there is no other place for it.
    elsewhere = await post(viewer, query=id_of(PAGE))
    assert elsewhere.json()["data"] == {"ingestions": {"nodes": []}}


async def test_an_id_that_is_not_there_is_a_coded_error(viewer: Client) -> None:
    for answer in (await post(viewer, documentId=id_of("{ __typename }")), await get(viewer, documentId="nothing")):
        message = "There is no persisted document with this id."
        assert (answer.status_code, answer.json()) == (404, {"errors": [{"message": message, "extensions": {"code": "NOT_FOUND"}}]})


@pytest.mark.parametrize("id", [3, None, "", [], {}, True])
async def test_what_is_no_id_names_no_document(viewer: Client, id: Any) -> None:
    answer = await post(viewer, documentId=id)
    assert (answer.status_code, len(answer.json()["errors"])) == (400, 1)


async def test_documents_of_ones_own_need_the_role(api: Api, viewer: Client) -> None:
    refused = await viewer.send("{ viewer { role } }", **NEW)
    message = "Documents of your own need the role ADMIN: send the id of a persisted document."
    assert (refused.status, refused.body) == (403, {"errors": [{"message": message, "extensions": {"code": "FORBIDDEN"}}]})
    admin = await api.client(role=Role.ADMIN)
    assert await Client(viewer.http, admin.tenant, admin.key).data("{ viewer { role } }") == {"viewer": {"role": "ADMIN"}}


async def test_a_persisted_mutation_is_no_way_around_post_or_the_role(viewer: Client) -> None:
    got = await get(viewer, documentId=id_of(PAUSE))
    assert (got.status_code, got.json()["errors"][0]["message"]) == (400, "mutations are not allowed when using GET")
    assert (await post(viewer, documentId=id_of(PAUSE))).json()["data"] == {"pauseIngestion": {"code": "FORBIDDEN"}}


async def test_limits_hold_for_persisted_documents_too(api: Api) -> None:
    async with limited(api, Limits(operation_cost=10, documents=DOCUMENTS)) as client:
        assert (await post(client, documentId=id_of(PAGE), variables={"n": 9})).status_code == 200
        assert (await post(client, documentId=id_of(PAGE), variables={"n": 10})).json()["errors"][0]["extensions"][
            "code"
        ] == "LIMIT_EXCEEDED"
