"""The backlog of all tenants: what it tells, in one statement that goes by the partial indexes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

import persistence.backlog
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.runs.entities import RunStatus
from persistence.backlog import read_backlog
from persistence.wakeup import background_ownership
from tests.contracts.persistence.world import World
from tests.fixtures.statements import Statements
from tests.integration.persistence.test_plans import explain, explain_for_any_parameters, filled, nodes, scans, sent_to  # noqa: F401

_FILES = text("""
    INSERT INTO processed_files
        (tenant_id, ingestion_id, path, status, size_bytes, etag, modified_at, discovered_at, processed_at, next_retry_at)
    SELECT :tenant, :ingestion, :status || n, :status, 1, 'v1', now(), now() - make_interval(secs => :age - n),
           CASE WHEN :status = 'FAILED' THEN now() END, CASE WHEN :retried THEN now() END
    FROM generate_series(1, :count) AS n
""")


async def lay(database: AsyncEngine, ingestion: Ingestion, status: str, count: int, *, age: int = 0, retried: bool = False) -> None:
    values = {"tenant": ingestion.tenant_id, "ingestion": ingestion.id, "status": status, "count": count, "age": age, "retried": retried}
    async with database.begin() as connection:
        await connection.execute(_FILES, values)


async def execute(database: AsyncEngine, statement: str, **values: Any) -> None:
    async with database.begin() as connection:
        await connection.execute(text(statement), values)


async def test_an_empty_database_has_no_backlog(database: AsyncEngine) -> None:
    told = await read_backlog(database)
    assert (told.pending, told.waiting_for_retry, told.lag_seconds) == (0, 0, 0.0)
    assert (told.outbox_entries, told.outbox_overdue_seconds, told.background_owned) == (0, 0.0, False)
    assert told.active_runs == {RunStatus.QUEUED: 0, RunStatus.RUNNING: 0, RunStatus.CANCELLING: 0}


async def test_what_waits_is_told_across_tenants_in_one_statement(
    database: AsyncEngine, database_url: str, world: World, statements: Statements
) -> None:
    mine, others = await world.ingestion(), await world.ingestion(tenant=world.other)
    await lay(database, mine, "PENDING", 3, age=100)
    await lay(database, others, "PENDING", 2, age=1_000)
    await lay(database, mine, "FAILED", 4, retried=True)
    await lay(database, others, "FAILED", 5)
    await lay(database, others, "SUCCESS", 6, age=100_000)
    await execute(
        database,
        "INSERT INTO outbox (tenant_id, topic, subject_id, due_at)"
        " SELECT :tenant, topic, gen_random_uuid(), now() - due * interval '1 second'"
        " FROM (VALUES ('RUN', 50), ('RUN', 5), ('RUN', -500), ('TABLE', 5000)) AS waiting (topic, due)",
        tenant=mine.tenant_id,
    )
    statements.watch(database)
    async with background_ownership(database_url, patience_seconds=60):
        with statements.exactly(1):
            told = await read_backlog(database)
    assert (told.pending, told.waiting_for_retry, told.outbox_entries, told.background_owned) == (5, 4, 4, True)
    # The first of an ingestion by id was found first.
    assert 999 <= told.lag_seconds < 1_060
    assert 50 <= told.outbox_overdue_seconds < 110
    assert not (await read_backlog(database)).background_owned


async def test_a_paused_ingestions_files_do_not_lag(database: AsyncEngine, world: World) -> None:
    ingestion = await world.ingestion()
    await lay(database, ingestion, "PENDING", 3, age=1_000)
    await execute(database, "UPDATE ingestions SET status = :status", status=IngestionStatus.PAUSED.value)
    told = await read_backlog(database)
    assert (told.pending, told.lag_seconds) == (3, 0.0)


async def test_counts_are_bounded(database: AsyncEngine, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ingestion = await world.ingestion()
    await lay(database, ingestion, "PENDING", 20)
    monkeypatch.setattr(persistence.backlog, "COUNT_AT_MOST", 7)
    assert (await read_backlog(database)).pending == 7


@pytest.mark.scenario(138)
async def test_it_goes_by_the_partial_indexes(database: AsyncEngine, database_url: str, filled: Ingestion) -> None:  # noqa: F811
    with sent_to(database) as sent:
        told = await read_backlog(database)
    assert (told.pending, told.waiting_for_retry) == (20, 0)
    expected = {"ix_processed_files_pending", "ix_processed_files_failed"}
    as_sent, for_any = await explain(database, sent), explain_for_any_parameters(database_url, sent)
    for plans in (as_sent, for_any):
        assert {scan.rpartition(" ")[2] for scan in scans(plans)} == expected
    read = [node for node in nodes(as_sent[0]) if node.get("Relation Name") == "processed_files"]
    assert sorted(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in read) == [1, 20, 20]
    assert "Seq Scan" not in {node["Node Type"] for node in nodes(for_any[0]) if node.get("Relation Name") in ("runs", "processed_files")}
