"""What ingestions and runs have cost, and will: over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from domain.ingestions import schedules
from domain.ingestions.entities import Ingestion, Schedule
from domain.runs.entities import Run, RunStatus
from graphql_api.relay.ids import encode_id
from persistence.tables import ingestions, runs
from tests.factories import NOW
from tests.fixtures.api import Api, Client
from tests.fixtures.statements import Statements
from tests.integration.graphql_api.test_reads import fill

ACTUAL = """
query ($id: ID!, $since: DateTime, $until: DateTime) {
  ingestion(id: $id) {
    actualCost(since: $since, until: $until) { currency runs seconds costs { compute requests storage total } assumptions }
    runs { nodes { actualCost { runs seconds costs { compute requests storage total } } } }
  }
}
"""
COSTS = """
query ($first: Int!) {
  ingestions(first: $first) {
    nodes {
      estimatedCost {
        currency runsPerMonth measure { files sizeBytes recentFiles recentBytes fromLedger } perMonth { total } assumptions
      }
      actualCost { runs costs { total } }
      year: actualCost(since: "2026-01-01T00:00:00Z", until: "2027-01-01T00:00:00Z") { runs }
      runs(first: 2) { nodes { actualCost { costs { total } } } }
    }
  }
}
"""


async def spend(api: Api) -> None:
    """Each run took an hour, listed its source, and loaded a gigabyte in 1,000 files."""
    did = {"started_at": NOW, "duration_seconds": 3_600.0, "listings": 1, "files_processed": 1_000, "bytes_processed": 10**9}
    async with api.database.begin() as connection:
        await connection.execute(update(runs).values(did))


async def test_what_was_spent_is_the_sum_of_the_runs(api: Api, client: Client) -> None:
    [ingestion] = await fill(api, client, parents=1)
    await spend(api)
    variables = {"id": encode_id(Ingestion, ingestion.id), "since": "2026-03-02T00:00:00Z", "until": "2026-03-02T13:30:00Z"}
    answer = (await client.data(ACTUAL, variables))["ingestion"]
    # 0.096 for the hour; 1,000 reads at 0.0004 and a page of listing at 0.000005; 150 MB of table at 0.023 a gigabyte.
    once = {"compute": 0.096, "requests": 0.000405, "storage": 0.00345, "total": 0.099855}
    assert answer["runs"]["nodes"] == [{"actualCost": {"runs": 1, "seconds": 3600.0, "costs": once}}] * 3
    cost = answer["actualCost"]
    assert (cost["currency"], cost["runs"], cost["seconds"]) == ("USD", 2, 7_200.0)
    assert cost["costs"] == {"compute": 0.192, "requests": 0.00081, "storage": 0.0069, "total": 0.19971}
    assert len(cost["assumptions"]) == 3


@pytest.mark.parametrize(
    "range",
    [{"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, {"since": "2020-01-01T00:00:00Z"}],
)
async def test_a_range_that_cannot_be_summed_is_named(api: Api, client: Client, range: dict[str, str]) -> None:
    [ingestion] = await fill(api, client, parents=1)
    [error] = (await client.send(ACTUAL, {"id": encode_id(Ingestion, ingestion.id)} | range)).errors
    assert error["extensions"]["code"] == "VALIDATION"
    assert [field["path"] for field in error["extensions"]["fields"]] == [["since"]]


async def test_an_estimate_comes_from_the_ledger(api: Api, client: Client) -> None:
    await fill(api, client, parents=1, runs_each=2)
    await spend(api)
    recently = datetime.now(UTC) - timedelta(days=3)
    async with api.database.begin() as connection:
        newest = update(runs).where(runs.c.queued_at > NOW)
        await connection.execute(newest.values(queued_at=recently))
        await connection.execute(update(ingestions).values(schedule=Schedule("0 0 * * *")))
    [node] = (await client.data(COSTS, {"first": 1}))["ingestions"]["nodes"]
    estimate = node["estimatedCost"]
    assert estimate["measure"] == {"files": 2, "sizeBytes": 20, "recentFiles": 1_000, "recentBytes": 10**9, "fromLedger": True}
    assert estimate["runsPerMonth"] == pytest.approx(365.25 / 12, rel=0.01)
    assert estimate["perMonth"]["total"] > 0
    assert any("it was not listed" in assumption for assumption in estimate["assumptions"])
    assert (node["actualCost"]["runs"], node["year"]["runs"]) == (1, 2)


async def test_there_is_no_estimate_before_a_file_is_known(api: Api, client: Client) -> None:
    await fill(api, client, parents=1, files_each=1)
    async with api.database.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM processed_files")
    [node] = (await client.data(COSTS, {"first": 1}))["ingestions"]["nodes"]
    assert node["estimatedCost"] is None


@pytest.mark.parametrize("parents", [1, 100])
async def test_costs_of_all_are_as_many_statements_as_of_one(api: Api, client: Client, statements: Statements, parents: int) -> None:
    await fill(api, client, parents=parents)
    statements.watch(api.database)
    # The key, the ingestions, their stats, the sums of two ranges, their runs, the runs' ingestions.
    with statements.exactly(7):
        await client.data(COSTS, {"first": parents})


@pytest.fixture
def counted_years(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The schedules whose year was counted."""
    counted: list[Any] = []
    count = schedules._firings_per_month.__wrapped__

    def recorded(schedule: Schedule, first: Any) -> float:
        counted.append(schedule)
        return float(count(schedule, first))

    schedules._firings_per_month.cache_clear()
    monkeypatch.setattr(schedules, "_firings_per_month", schedules.lru_cache(recorded))
    return counted


async def test_a_year_is_counted_once_for_all_that_share_a_schedule(api: Api, client: Client, counted_years: list[Any]) -> None:
    await fill(api, client, parents=20)
    schedule = Schedule("*/7 * * * *")
    async with api.database.begin() as connection:
        await connection.execute(update(ingestions).values(schedule=schedule))
    for _ in range(2):
        await client.data(COSTS, {"first": 20})
    assert counted_years == [schedule]


async def test_a_run_that_has_not_ended_has_cost_nothing(api: Api, client: Client) -> None:
    [ingestion] = await fill(api, client, parents=1, runs_each=1)
    async with api.database.begin() as connection:
        await connection.execute(update(runs).values(ended_at=None, status=RunStatus.RUNNING))
    run = await api.scalar(f"SELECT id FROM runs WHERE ingestion_id = '{ingestion.id}'")
    data = await client.data("query ($id: ID!) { run(id: $id) { actualCost { runs costs { total } } } }", {"id": encode_id(Run, run)})
    assert data["run"]["actualCost"] == {"runs": 0, "costs": {"total": 0.0}}
