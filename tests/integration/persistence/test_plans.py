"""The ledger's statements go by its indexes, whichever way PostgreSQL plans them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ingestions.entities import ChangedFilePolicy, Ingestion
from domain.ports.reader import Window
from domain.ports.unit_of_work import UnitOfWork
from domain.relations import INGESTION_FILES, INGESTION_RUNS, RUNS, ProcessedFileFilter, Relation, RunFilter
from domain.runs.entities import RunLimits, RunStatus
from persistence.directory import SqlDirectory
from persistence.reader import SqlReader
from persistence.unit_of_work import SqlUnitOfWorkFactory
from tests.contracts.persistence.world import World
from tests.factories import a_batch, stored_objects

ROWS = 20_000
_FILL = text("""
    INSERT INTO processed_files (tenant_id, ingestion_id, path, status, size_bytes, etag, modified_at, batch_id)
    SELECT :tenant, :ingestion, 's3://landing/events/' || to_char(n, 'FM000000') || '.json',
           CASE n % 1000 WHEN 0 THEN 'PENDING' WHEN 1 THEN 'FAILED' WHEN 2 THEN 'PROCESSING' ELSE 'SUCCESS' END, 100, 'v1', now(),
           CASE n % 1000 WHEN 2 THEN gen_random_uuid() END
    FROM generate_series(0, :rows - 1) AS n
""")


@pytest.fixture
async def filled(world: World, database: AsyncEngine) -> Ingestion:
    ingestion = await world.ingestion()
    async with database.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(_FILL, {"tenant": ingestion.tenant_id, "ingestion": ingestion.id, "rows": ROWS})
        await autocommit.execute(text("VACUUM ANALYZE processed_files"))
    return ingestion


Sent = list[tuple[str, Any]]


@contextmanager
def sent_to(database: AsyncEngine) -> Iterator[Sent]:
    """Statements and parameters, as they go to the database."""
    sent: Sent = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    event.listen(database.sync_engine, "before_cursor_execute", record)
    yield sent
    event.remove(database.sync_engine, "before_cursor_execute", record)


async def explain(database: AsyncEngine, sent: Sent) -> list[dict[str, Any]]:
    """The plans that the statements were executed by, with the rows that passed through."""
    async with database.connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        return [
            (await raw.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *parameters))[0]["Plan"] for statement, parameters in sent
        ]


def explain_for_any_parameters(url: str, sent: Sent) -> list[dict[str, Any]]:
    """The plans that PostgreSQL would keep for statements that come often, not knowing the parameters."""
    with closing(psycopg2.connect(url.replace("+asyncpg", ""))) as connection, connection.cursor() as cursor:
        # Costs of what a table this small makes cheap enough to read whole.
        cursor.execute("SET enable_seqscan = off")
        plans = []
        for statement, _ in sent:
            cursor.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}")
            plans.append(cursor.fetchone()[0][0]["Plan"])
        return plans


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def scans(plans: list[dict[str, Any]]) -> set[str]:
    """By which index the ledger is read, and how."""
    found = (node for plan in plans for node in nodes(plan) if node.get("Relation Name") == "processed_files")
    return {f"{node['Node Type']} on {node.get('Index Name')}" for node in found if "Scan" in node["Node Type"]}


@pytest.mark.scenario(138)
async def test_the_ledgers_statements_go_by_its_indexes(database: AsyncEngine, database_url: str, filled: Ingestion) -> None:
    batch, listed = a_batch(tenant_id=filled.tenant_id, ingestion_id=filled.id), stored_objects(5_000)
    changed = stored_objects(50, etag="v2")
    calls: list[tuple[Callable[[UnitOfWork], Awaitable[object]], set[str]]] = [
        (lambda tx: tx.files.record_discovered(filled.id, listed), {"Index Only Scan on uq_processed_files_current"}),
        (lambda tx: tx.files.count_pending(filled.id, at_most=10**6), {"Index Scan on ix_processed_files_pending"}),
        (
            lambda tx: tx.files.requeue_due_failures(filled.id, max_retries=3),
            {"Index Scan on ix_processed_files_failed", "Index Scan on pk_processed_files"},
        ),
        (
            lambda tx: tx.files.release_held(filled.id, outdated=True),
            {"Index Scan on ix_processed_files_held", "Index Scan on pk_processed_files"},
        ),
        (
            lambda tx: tx.files.assign_unloaded(filled.id, of_run=batch.run_id, to_run=batch.id),
            {"Bitmap Heap Scan on None", "Index Scan on pk_processed_files"},
        ),
        (lambda tx: tx.files.release(batch), {"Index Scan on ix_processed_files_in_work"}),
        (
            lambda tx: tx.files.claim(batch, max_files=5_000, max_bytes=2**40),
            {"Index Scan on ix_processed_files_pending", "Index Scan on pk_processed_files"},
        ),
        (
            lambda tx: tx.files.record_discovered(filled.id, changed, changed_files=ChangedFilePolicy.REPLACE),
            {"Index Only Scan on uq_processed_files_current", "Index Scan on uq_processed_files_current"},
        ),
        (
            lambda tx: tx.files.get_replaced(batch),
            {"Index Scan on ix_processed_files_in_work", "Index Scan on ix_processed_files_earlier"},
        ),
        (
            lambda tx: tx.files.supersede(batch, [1, 2, 3]),
            {"Index Scan on pk_processed_files", "Index Scan on ix_processed_files_earlier"},
        ),
        (
            lambda tx: tx.files.rows_of_earlier_versions(filled.id, [file.path for file in changed]),
            {"Index Scan on ix_processed_files_earlier"},
        ),
    ]
    for call, expected in calls:
        with sent_to(database) as sent:
            async with SqlUnitOfWorkFactory(database)(filled.tenant_id) as tx:
                await call(tx)
        of_ledger = [statement for statement in sent if "processed_files" in statement[0]]
        assert scans(await explain(database, of_ledger)) == expected
        assert scans(explain_for_any_parameters(database_url, of_ledger)) == expected


@pytest.mark.scenario(138)
@pytest.mark.parametrize("order", list(INGESTION_FILES.orders))
async def test_a_page_of_files_reads_no_more_than_the_page(database: AsyncEngine, filled: Ingestion, order: str) -> None:
    window = Window(limit=10, order=order, filter=ProcessedFileFilter())
    with sent_to(database) as sent:
        await SqlReader(database, filled.tenant_id).pages(INGESTION_FILES, [filled.id], window)
    (plan,) = await explain(database, sent)
    # One more tells whether there is more, and another that no equal follows where ids decide among equals.
    assert max(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in nodes(plan)) <= 12


_FILL_RUNS = text("""
    INSERT INTO runs (id, tenant_id, ingestion_id, status, trigger, queued_at, ended_at)
    SELECT gen_random_uuid(), :tenant, :ingestion, CASE n % 1000 WHEN 0 THEN 'FAILED' ELSE 'SUCCESS' END, 'SCHEDULED',
           now() - n * interval '1 minute', now()
    FROM generate_series(0, :rows - 1) AS n
""")


async def _with_runs(world: World, database: AsyncEngine) -> Ingestion:
    ingestion = await world.ingestion()
    async with database.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(_FILL_RUNS, {"tenant": ingestion.tenant_id, "ingestion": ingestion.id, "rows": ROWS})
        await autocommit.execute(text("VACUUM ANALYZE runs"))
    return ingestion


@pytest.mark.parametrize("relation", [RUNS, INGESTION_RUNS], ids=lambda relation: relation.name)
async def test_the_few_runs_that_failed_are_found_without_reading_the_others(
    world: World, database: AsyncEngine, relation: Relation[Any]
) -> None:
    ingestion = await _with_runs(world, database)
    window = Window(limit=10, order="NEWEST", filter=RunFilter(status=(RunStatus.FAILED,)))
    with sent_to(database) as sent:
        (page,) = await SqlReader(database, ingestion.tenant_id).pages(relation, [ingestion.id if relation.parent else None], window)
    assert len(page.edges) == 10
    (plan,) = await explain(database, sent)
    assert max(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in nodes(plan)) <= ROWS // 1000


async def test_taking_runs_reads_none_that_has_ended(world: World, database: AsyncEngine) -> None:
    await _with_runs(world, database)
    for _ in range(3):
        await world.run(await world.ingestion())
    with sent_to(database) as sent:
        assert len(await SqlDirectory(database).take_runs(2, RunLimits(per_tenant=9), lease_seconds=60)) == 2
    plans = await explain(database, [statement for statement in sent if "row_number" in statement[0]])
    assert len(plans) == 1
    assert max(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for plan in plans for node in nodes(plan)) <= 3


@pytest.mark.scenario(138)
async def test_counting_an_ingestions_files_reads_none_of_them(database: AsyncEngine, database_url: str, filled: Ingestion) -> None:
    with sent_to(database) as sent:
        (stats,) = await SqlReader(database, filled.tenant_id).stats([filled.id])
    assert (stats.files, stats.backlog.files) == (ROWS, ROWS // 1000)
    expected = {"Index Scan on ix_processed_files_pending"}
    plans = await explain(database, sent)
    assert scans(plans) == expected
    assert scans(explain_for_any_parameters(database_url, sent)) == expected
    # A row for each of four statuses, and the file that waits longest.
    assert max(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for plan in plans for node in nodes(plan)) <= 4
