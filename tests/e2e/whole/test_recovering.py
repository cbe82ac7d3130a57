"""Runs that failed and are retried, and tables that are begun anew."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from pyiceberg.table import Table

from tests.fixtures.whole_stack import Whole, lines
from tests.integration.graphql_api.test_refresh import REFRESH

# The first of them starts everything.
pytestmark = pytest.mark.timeout(600)

RETRY = "mutation ($input: RetryRunInput!) { retryRun(input: $input) { ... on Run { id } ... on Error { message } } }"
RUNS = """
query ($id: ID!) {
  ingestion(id: $id) { generation runs { nodes {
    id status trigger retryCount errorMessage filesDiscovered filesProcessed filesFailed rowsWritten retryOf { id }
  } } }
}
"""


async def runs(whole: Whole, id: str) -> list[dict[str, Any]]:
    """The newest first."""
    nodes: list[dict[str, Any]] = (await whole.data(RUNS, {"id": id}))["ingestion"]["runs"]["nodes"]
    return nodes


@pytest.mark.scenario(124)
async def test_a_failed_run_is_retried_and_succeeds(whole: Whole) -> None:
    whole.land("a.json", lines([{"id": 1}]))
    id = await whole.create()
    assert (await whole.run(id))["status"] == "SUCCESS"
    # Somebody tidies the warehouse up, and takes away what the table cannot be read without.
    metadata = await whole.iceberg(lambda table: table.metadata_location)
    taken = whole.take_away(metadata)
    whole.land("b.json", lines([{"id": 2}, {"id": 3}]))

    failed = await whole.run(id)

    assert failed["status"] == "FAILED"
    assert failed["errorMessage"].startswith("the table catalog or the warehouse failed")
    [before, _] = await runs(whole, id)

    whole.bring_back(metadata, taken)
    retried = await whole.ended((await whole.do(RETRY, runId=failed["id"]))["id"])

    assert (retried["status"], retried["trigger"], retried["filesProcessed"], retried["rowsWritten"]) == ("SUCCESS", "RETRY", 1, 2)
    assert sorted(row["id"] for row in await whole.rows("id")) == [1, 2, 3]
    [of_retry, after, _] = await runs(whole, id)
    assert (of_retry["retryOf"], of_retry["retryCount"]) == ({"id": failed["id"]}, 1)
    assert before == after


@pytest.mark.scenario(125)
async def test_a_full_refresh_forgets_everything_and_loads_it_anew(whole: Whole) -> None:
    for number in range(3):
        whole.land(f"{number}.json", lines([{"id": number, "of": "the first"}]))
    id = await whole.create()
    assert (await whole.run(id))["rowsWritten"] == 3

    def look(table: Table) -> tuple[UUID, set[str]]:
        return table.metadata.table_uuid, {task.file.file_path for task in table.scan().plan_files()}

    old_table, old_files = await whole.iceberg(look)
    # One has gone since and one holds something else: what lies there now is what counts.
    whole.bucket.delete(f"{whole.name}/0.json")
    whole.land("1.json", lines([{"id": 1, "of": "the second"}]))

    answer = await whole.do(REFRESH, ingestionId=id, mode="FULL", confirm=True)
    run = await whole.ended(answer["run"]["id"])

    assert (run["status"], run["trigger"]) == ("SUCCESS", "REFRESH")
    assert (run["filesDiscovered"], run["filesProcessed"], run["rowsWritten"]) == (2, 2, 2)
    assert sorted(await whole.rows("id", "of"), key=lambda row: row["id"]) == [
        {"id": 1, "of": "the second"},
        {"id": 2, "of": "the first"},
    ]
    new_table, new_files = await whole.iceberg(look)
    assert new_table != old_table
    assert (await whole.data(RUNS, {"id": id}))["ingestion"]["generation"] == 2
    lying = whole.data_files()
    assert new_files <= lying
    assert old_files.isdisjoint(lying)
