"""Lists and what hangs below them: order, pages, filters, and exactly how many statements they cost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, update

from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ledger.entities import FileStatus
from domain.relations import INGESTION_RUNS, INGESTIONS
from domain.runs.entities import Run, RunStatus
from graphql_api.relay.cursors import encode_cursor
from graphql_api.relay.ids import encode_id
from persistence.mapping import values_of
from persistence.tables import file_attempts, ingestions, processed_files, runs
from tests.factories import NOW, a_run, an_ingestion
from tests.fixtures.api import Api, Client
from tests.fixtures.statements import Statements


async def fill(api: Api, client: Client, *, parents: int, runs_each: int = 3, files_each: int = 2) -> list[Ingestion]:
    """Ingestions with ended runs and files with an attempt each; the first is the oldest."""
    made = [
        an_ingestion(tenant_id=client.tenant.id, name=f"n{i:03}", created_at=NOW + timedelta(minutes=i), status=IngestionStatus.ACTIVE)
        for i in range(parents)
    ]
    passes = [
        a_run(
            tenant_id=client.tenant.id,
            ingestion_id=ingestion.id,
            status=RunStatus.SUCCESS if i % 2 == 0 else RunStatus.PARTIAL,
            queued_at=NOW + timedelta(hours=i),
            ended_at=NOW + timedelta(hours=i, minutes=1),
        )
        for ingestion in made
        for i in range(runs_each)
    ]
    newest = {run.ingestion_id: run.id for run in passes}
    async with api.database.begin() as connection:
        await connection.execute(
            insert(ingestions), [values_of(ingestion) | {"destination_key": ingestion.destination.key} for ingestion in made]
        )
        await connection.execute(insert(runs), [values_of(run) for run in passes])
        for ingestion in made:
            await connection.execute(update(ingestions).where(ingestions.c.id == ingestion.id).values(last_run_id=newest[ingestion.id]))
        files = [
            {
                "tenant_id": client.tenant.id,
                "ingestion_id": ingestion.id,
                "path": f"s3://landing/{ingestion.name}/{i}.json",
                "status": FileStatus.SUCCESS if i % 2 == 0 else FileStatus.FAILED,
                "size_bytes": 10,
                "etag": "e",
                "modified_at": NOW,
            }
            for ingestion in made
            for i in range(files_each)
        ]
        ids = (
            await connection.execute(insert(processed_files).returning(processed_files.c.id, processed_files.c.ingestion_id), files)
        ).all()
        attempts = [
            {
                "tenant_id": client.tenant.id,
                "ingestion_id": ingestion_id,
                "run_id": newest[ingestion_id],
                "file_id": id,
                "batch_id": UUID(int=7),
                "outcome": FileStatus.FAILED,
                "rows": 0,
                "rows_skipped": 0,
                "rows_rescued": 0,
                "error_message": "then",
            }
            for id, ingestion_id in ids
        ]
        await connection.execute(insert(file_attempts), attempts)
    return made


DASHBOARD = """
query Dashboard($first: Int!) {
  ingestions(first: $first, orderBy: NAME) {
    nodes {
      id name status
      lastRun { id status }
      runs(first: 2) {
        totalCount
        nodes {
          id status ingestion { name } retryOf { id }
          files(first: 5) { nodes { path attempts { nodes { outcome run { id } } } } }
        }
      }
      files(first: 2) { nodes { path status run { id } } }
      schemaVersions { nodes { version } }
    }
  }
}
"""


@pytest.mark.parametrize("parents", [1, 100])
async def test_the_dashboard_costs_the_same_statements_for_one_and_for_a_hundred(
    api: Api, client: Client, statements: Statements, parents: int
) -> None:
    await fill(api, client, parents=parents)
    statements.watch(api.database)
    # The key; ingestions; for all of them at once their last runs, runs, runs' counts, files and schema versions; for all
    # runs at once their ingestions and files; for all files at once their attempts. The runs that those name are known.
    with statements.exactly(10):
        data = await client.data(DASHBOARD, {"first": parents})
    assert len(data["ingestions"]["nodes"]) == parents
    assert all(len(node["runs"]["nodes"]) == 2 and node["runs"]["totalCount"] == 3 for node in data["ingestions"]["nodes"])


async def test_a_count_is_paid_for_only_when_it_is_asked_for(api: Api, client: Client, statements: Statements) -> None:
    await fill(api, client, parents=2)
    statements.watch(api.database)
    with statements.exactly(2):
        await client.data("{ ingestions { nodes { name } pageInfo { hasNextPage } } }")
    with statements.exactly(3):
        assert (await client.data("{ ingestions(first: 1) { totalCount } }"))["ingestions"]["totalCount"] == 2


PAGE = """
query Page($first: Int, $after: String, $last: Int, $before: String, $orderBy: IngestionOrder! = NAME, $filter: IngestionFilter) {
  ingestions(first: $first, after: $after, last: $last, before: $before, orderBy: $orderBy, filter: $filter) {
    edges { cursor node { name } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""


async def page(client: Client, **variables: Any) -> tuple[list[str], dict[str, Any]]:
    connection = (await client.data(PAGE, variables))["ingestions"]
    assert connection["pageInfo"]["startCursor"] == (connection["edges"][0]["cursor"] if connection["edges"] else None)
    return [edge["node"]["name"] for edge in connection["edges"]], connection["pageInfo"]


async def test_pages_turn_in_both_directions(api: Api, client: Client) -> None:
    await fill(api, client, parents=5)
    names, info = await page(client, first=2)
    assert (names, info["hasNextPage"], info["hasPreviousPage"]) == (["n000", "n001"], True, False)
    names, info = await page(client, first=2, after=info["endCursor"])
    assert (names, info["hasNextPage"], info["hasPreviousPage"]) == (["n002", "n003"], True, True)
    names, info = await page(client, first=2, after=info["endCursor"])
    assert (names, info["hasNextPage"], info["hasPreviousPage"]) == (["n004"], False, True)
    names, info = await page(client, last=2, before=info["startCursor"])
    assert (names, info["hasNextPage"], info["hasPreviousPage"]) == (["n002", "n003"], True, True)
    names, info = await page(client, last=3, before=info["startCursor"])
    assert (names, info["hasNextPage"], info["hasPreviousPage"]) == (["n000", "n001"], True, False)


async def test_the_newest_come_first_unless_told_otherwise(api: Api, client: Client) -> None:
    await fill(api, client, parents=3)
    assert (await page(client, orderBy="NEWEST"))[0] == ["n002", "n001", "n000"]
    assert (await page(client, orderBy="OLDEST"))[0] == ["n000", "n001", "n002"]


async def test_filters_take_what_they_say_and_wildcards_are_letters(api: Api, client: Client) -> None:
    await fill(api, client, parents=3)
    assert (await page(client, filter={"nameContains": "N00"}))[0] == ["n000", "n001", "n002"]
    assert (await page(client, filter={"nameContains": "%"}))[0] == []
    assert (await page(client, filter={"nameContains": "1", "status": ["ACTIVE"]}))[0] == ["n001"]
    assert (await page(client, filter={"status": ["DRAFT"]}))[0] == []
    assert (await page(client, filter={"status": []}))[0] == []


@pytest.mark.scenario(18)
async def test_runs_are_filtered_by_time_and_status(api: Api, client: Client) -> None:
    [ingestion] = await fill(api, client, parents=1)
    document = """
    query ($id: ID!, $since: DateTime, $until: DateTime, $status: [RunStatus!]) {
      ingestion(id: $id) { runs(since: $since, until: $until, status: $status) { totalCount nodes { queuedAt status } } }
    }
    """

    async def ask(**variables: Any) -> list[str]:
        data = await client.data(document, {"id": encode_id(Ingestion, ingestion.id)} | variables)
        assert data["ingestion"]["runs"]["totalCount"] == len(data["ingestion"]["runs"]["nodes"])
        return [node["queuedAt"][11:13] for node in data["ingestion"]["runs"]["nodes"]]

    assert await ask() == ["14", "13", "12"]
    assert await ask(since="2026-03-02T13:00:00Z") == ["14", "13"]
    assert await ask(since="2026-03-02T14:00:00+01:00", until="2026-03-02T14:00:00Z") == ["13"]
    assert await ask(status=["PARTIAL"]) == ["13"]


async def test_a_runs_files_tell_what_that_run_did(api: Api, client: Client) -> None:
    [ingestion] = await fill(api, client, parents=1)
    newest = await api.scalar(f"SELECT id FROM runs WHERE ingestion_id = '{ingestion.id}' ORDER BY queued_at DESC LIMIT 1")
    document = """
    query ($id: ID!, $filter: ProcessedFileFilter) {
      run(id: $id) { files(filter: $filter) { totalCount edges { node { path status } attempt { outcome errorMessage batchId } } } }
    }
    """
    variables: dict[str, Any] = {"id": encode_id(Run, newest), "filter": {"status": ["FAILED"]}}
    files = (await client.data(document, variables))["run"]["files"]
    assert files["totalCount"] == 2
    assert files["edges"][0] == {
        "node": {"path": "s3://landing/n000/0.json", "status": "SUCCESS"},
        "attempt": {"outcome": "FAILED", "errorMessage": "then", "batchId": str(UUID(int=7))},
    }
    variables["filter"] = {"status": ["SUCCESS"]}
    assert (await client.data(document, variables))["run"]["files"] == {"totalCount": 0, "edges": []}
    variables["filter"] = {"pathPrefix": "s3://landing/n000/1"}
    assert (await client.data(document, variables))["run"]["files"]["totalCount"] == 1


async def test_node_gives_anything_by_its_id(api: Api, client: Client) -> None:
    [ingestion] = await fill(api, client, parents=1)
    id = encode_id(Ingestion, ingestion.id)
    document = "query ($id: ID!) { node(id: $id) { __typename id ... on Ingestion { name } ... on ProcessedFile { path } } }"
    assert await client.data(document, {"id": id}) == {"node": {"__typename": "Ingestion", "id": id, "name": "n000"}}
    files = await client.data("query ($id: ID!) { ingestion(id: $id) { files(first: 1) { nodes { id path } } } }", {"id": id})
    file = files["ingestion"]["files"]["nodes"][0]
    assert await client.data(document, {"id": file["id"]}) == {"node": {"__typename": "ProcessedFile", **file}}


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"first": -1}, ["first"]),
        ({"first": 101}, ["first"]),
        ({"last": 101}, ["last"]),
        ({"first": 1, "last": 1}, ["last"]),
        ({"after": "nonsense"}, ["after"]),
        ({"before": ""}, ["before"]),
        ({"after": encode_cursor(INGESTIONS, "NEWEST", (NOW, UUID(int=1)))}, ["after"]),
        ({"after": encode_cursor(INGESTION_RUNS, "NEWEST", (NOW, UUID(int=1)))}, ["after"]),
        ({"after": encode_cursor(INGESTIONS, "NAME", ("a\0", UUID(int=1)))}, ["after"]),
        ({"after": encode_cursor(INGESTIONS, "NAME", (1, UUID(int=1)))}, ["after"]),
        ({"after": encode_cursor(INGESTIONS, "NAME", ("a",))}, ["after"]),
    ],
)
async def test_bad_paging_arguments_are_named(client: Client, arguments: dict[str, Any], path: list[str]) -> None:
    answer = await client.send(PAGE, arguments)
    [error] = answer.errors
    assert error["extensions"]["code"] == "VALIDATION"
    assert [field["path"] for field in error["extensions"]["fields"]] == [path]


async def test_a_naive_moment_is_refused(client: Client) -> None:
    answer = await client.send('{ runs(filter: {since: "2026-01-01T00:00:00"}) { totalCount } }')
    assert "time zone" in answer.errors[0]["message"]


async def test_a_nul_in_a_filter_is_named(client: Client) -> None:
    answer = await client.send(PAGE, {"filter": {"nameContains": "\0"}})
    assert answer.errors[0]["extensions"]["fields"] == [{"path": ["filter", "nameContains"], "message": "must not contain a NUL character"}]
