"""How an ingestion stands, in numbers: over HTTP."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from domain.ingestions.entities import Ingestion
from domain.ledger.entities import FileStatus
from graphql_api.relay.ids import encode_id
from persistence.tables import processed_files
from tests.factories import NOW
from tests.fixtures.api import Api, Client
from tests.fixtures.statements import Statements
from tests.integration.graphql_api.test_reads import fill

STATS = """
fragment Stats on Ingestion {
  stats {
    files sizeBytes bytesLoaded rowsLoaded rowsSkipped rowsRescued successRate lastSuccessAt
    byStatus { status files sizeBytes }
    backlog { files sizeBytes oldestDiscoveredAt }
  }
}
"""
ONE = STATS + "query ($id: ID!) { ingestion(id: $id) { ...Stats } }"
MANY = STATS + "query ($first: Int!) { ingestions(first: $first) { nodes { ...Stats } } }"


async def test_stats_tell_how_the_ledger_stands(api: Api, client: Client) -> None:
    [ingestion] = await fill(api, client, parents=1, files_each=6)
    async with api.database.begin() as connection:
        loaded = update(processed_files).where(processed_files.c.status == FileStatus.SUCCESS)
        await connection.execute(loaded.values(rows=5, rows_skipped=2, rows_rescued=1))
        waiting = update(processed_files).where(processed_files.c.path.endswith("/5.json"))
        await connection.execute(waiting.values(status=FileStatus.PENDING, discovered_at=NOW))
    stats = (await client.data(ONE, {"id": encode_id(Ingestion, ingestion.id)}))["ingestion"]["stats"]
    assert {count["status"]: (count["files"], count["sizeBytes"]) for count in stats.pop("byStatus")} == {
        "PENDING": (1, 10),
        "PROCESSING": (0, 0),
        "HELD": (0, 0),
        "SUCCESS": (3, 30),
        "FAILED": (2, 20),
        "SKIPPED": (0, 0),
        "SUPERSEDED": (0, 0),
    }
    assert stats == {
        "files": 6,
        "sizeBytes": 60,
        "bytesLoaded": 30,
        "rowsLoaded": 15,
        "rowsSkipped": 6,
        "rowsRescued": 3,
        "successRate": 0.6,
        "lastSuccessAt": (NOW + timedelta(hours=2, minutes=1)).isoformat().replace("+00:00", "Z"),
        "backlog": {"files": 1, "sizeBytes": 10, "oldestDiscoveredAt": "2026-03-02T12:00:00Z"},
    }


@pytest.mark.parametrize("parents", [1, 100])
async def test_stats_of_all_are_one_statement(api: Api, client: Client, statements: Statements, parents: int) -> None:
    await fill(api, client, parents=parents)
    statements.watch(api.database)
    # The key, the ingestions, their stats.
    with statements.exactly(3):
        data = await client.data(MANY, {"first": parents})
    assert [node["stats"]["files"] for node in data["ingestions"]["nodes"]] == [2] * parents
