"""Another tenant's things are like things that are not there, and without credentials there is nothing."""

from __future__ import annotations

import base64
from typing import Any
from uuid import uuid4

import pytest

from tests.fixtures.api import Api, Client
from tests.integration.graphql_api.documents import CHANGE_STATUS, RUN, create
from tests.integration.graphql_api.test_lifecycle import UPDATE


def an_id(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


NOBODYS = {
    "missing": an_id(f"Ingestion:{uuid4()}"),
    "of another kind": an_id(f"Run:{uuid4()}"),
    "not an id": "nonsense",
    "empty": "",
    "an unknown kind": an_id("Secret:1"),
    "past 64 bits": an_id(f"ProcessedFile:{2**70}"),
    "NUL": an_id("Ingestion:\0"),
}


async def everything_about(client: Client, id: str) -> list[dict[str, Any]]:
    reads = [
        "query ($id: ID!) { ingestion(id: $id) { id } run(id: $id) { id } node(id: $id) { id } }",
        "query ($id: ID!) { runs(filter: {ingestionId: $id}) { totalCount nodes { id } } }",
        *(CHANGE_STATUS % f"{verb}Ingestion" for verb in ("activate", "pause", "resume")),
    ]
    return [
        *[(await client.send(document, {"id": id})).body for document in reads],
        (await client.send(UPDATE, {"input": {"id": id, "name": "stolen"}})).body,
        (await client.send(RUN, {"input": {"ingestionId": id}})).body,
    ]


@pytest.mark.scenario(6)
async def test_a_list_shows_the_callers_own(api: Api, client: Client) -> None:
    await create(api, client, name="mine")
    stranger = await api.client()
    await create(api, stranger, name="theirs")
    document = "{ ingestions { totalCount nodes { name } } }"
    assert await client.data(document) == {"ingestions": {"totalCount": 1, "nodes": [{"name": "mine"}]}}
    assert await stranger.data(document) == {"ingestions": {"totalCount": 1, "nodes": [{"name": "theirs"}]}}


@pytest.mark.scenario(7, 148)
async def test_ids_of_others_answer_exactly_like_ids_of_nothing(api: Api, client: Client) -> None:
    theirs = (await create(api, await api.client()))["id"]
    answers = [await everything_about(client, id) for id in (theirs, *NOBODYS.values())]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0]["data"] == {"ingestion": None, "run": None, "node": None}
    refusal = {"__typename": "NotFoundError", "code": "NOT_FOUND", "message": "ingestion not found"}
    assert answers[0][2]["data"]["activateIngestion"] == refusal
    assert answers[0][-1]["data"]["runIngestion"] == refusal
    assert await api.scalar("SELECT name || status || version FROM ingestions") == "ordersDRAFT1"
    assert await api.scalar("SELECT count(*) FROM runs") == 0


@pytest.mark.scenario(148)
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer x", "Basic dXNlcjpwYXNz", f"Bearer al_{'0' * 12}_{'x' * 43}"],
)
async def test_without_good_credentials_401(api: Api, client: Client, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    answer = await api.anonymous().send("{ viewer { tenant } }", **headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.body == {"errors": [{"message": "Credentials are missing or not good: send 'Authorization: Bearer <key>'."}]}


async def test_a_key_with_another_secret_is_refused(api: Api, client: Client) -> None:
    assert client.key is not None
    forged = client.key[:-1] + ("A" if client.key[-1] != "A" else "B")
    assert (await api.anonymous().send("{ viewer { tenant } }", authorization=f"Bearer {forged}")).status == 401


async def test_keys_are_stored_as_digests_only(api: Api, client: Client) -> None:
    assert client.key is not None
    stored = await api.scalar("SELECT encode(digest, 'hex') || prefix || name FROM api_keys")
    assert client.key not in stored
    assert client.key.split("_", 2)[2] not in stored


async def test_a_revoked_key_is_refused(api: Api, client: Client) -> None:
    from sqlalchemy import text

    async with api.database.begin() as connection:
        await connection.execute(text("UPDATE api_keys SET revoked_at = now()"))
    assert (await client.send("{ viewer { tenant } }")).status == 401


async def test_the_viewer_is_told_who_they_are(client: Client) -> None:
    assert await client.data("{ viewer { tenant role } }") == {"viewer": {"tenant": client.tenant.name, "role": "ADMIN"}}
