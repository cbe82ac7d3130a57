"""The ledger's counts over PostgreSQL: exact whoever counts at the same time, and cheap however many files there are."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ledger.entities import FileStatus
from persistence.database import open_database
from persistence.directory import SqlDirectory
from persistence.reader import SqlReader
from persistence.row_security import DIRECTORY_ROLE, TENANT_ROLE
from persistence.tables import file_count_changes
from persistence.unit_of_work import SqlUnitOfWorkFactory
from tests.contracts.persistence.stats import histories, tell_history
from tests.contracts.persistence.world import World, make_world
from tests.factories import loaded, stored_objects
from tests.fakes.database import FakeDatabase
from tests.fakes.directory import FakeDirectory
from tests.fakes.reader import FakeReader
from tests.fakes.unit_of_work import FakeUnitOfWorkFactory
from tests.fixtures.statements import Statements

WORKERS = 8
_KEPT = select(func.count()).select_from(file_count_changes)


def test_any_history_gives_the_counts_of_the_files_and_those_of_the_fake(database_url: str) -> None:
    with asyncio.Runner() as runner:
        acting, across = open_database(database_url, role=TENANT_ROLE), open_database(database_url, role=DIRECTORY_ROLE)

        @settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
        @given(histories)
        def every_history(history: list[tuple[str, int]]) -> None:
            async def tell() -> None:
                world = await make_world(SqlUnitOfWorkFactory(acting), SqlDirectory(across), lambda id: SqlReader(acting, id))
                memory = FakeDatabase()
                fake = await make_world(FakeUnitOfWorkFactory(memory), FakeDirectory(memory), lambda id: FakeReader(memory, id))
                assert await tell_history(world, history) == await tell_history(fake, history)

            runner.run(tell())

        try:
            every_history()
        finally:
            runner.run(acting.dispose())
            runner.run(across.dispose())


async def test_counts_are_exact_while_many_claim_and_mark_and_compact(world: World) -> None:
    ingestion = await world.ingestion()
    await world.discover(ingestion, 400)
    done = asyncio.Event()

    async def work() -> None:
        while True:
            batch, files = await world.claim(ingestion, files=7)
            if not files:
                return
            async with world.begin() as tx:
                await tx.files.mark_success(batch, [loaded(file, rows=3) for file in files], snapshot_id=1)

    async def compact() -> None:
        while not done.is_set():
            await world.directory.compact_file_counts(5)

    async def look() -> None:
        while not done.is_set():
            (stats,) = await world.reader.stats([ingestion.id])
            # Whatever moves meanwhile, every file is counted once.
            assert (stats.files, stats.size_bytes) == (400, 40_000)
            assert stats.rows_loaded == 3 * stats.of_status(FileStatus.SUCCESS).files

    chores = [asyncio.create_task(chore()) for chore in (compact, compact, look)]
    try:
        await asyncio.gather(*(work() for _ in range(WORKERS)))
    finally:
        done.set()
        await asyncio.gather(*chores)
    while await world.directory.compact_file_counts(1_000):
        pass
    (stats,) = await world.reader.stats([ingestion.id])
    assert {count.status: count.files for count in stats.by_status if count.files} == {FileStatus.SUCCESS: 400}


async def test_a_statement_over_many_files_leaves_a_row_for_each_status(world: World, database: AsyncEngine) -> None:
    ingestion = await world.ingestion()

    async def kept() -> int:
        async with database.connect() as connection:
            return await connection.scalar(_KEPT) or 0

    await world.discover(ingestion, 1_000)
    assert await kept() == 1
    await world.discover(ingestion, 1_000)
    assert await kept() == 1
    await world.claim(ingestion)
    assert await kept() == 3
    async with database.begin() as connection:
        await connection.execute(text("UPDATE processed_files SET etag = 'another'"))
    assert await kept() == 3
    assert await world.directory.compact_file_counts(2) == 2
    assert await world.directory.compact_file_counts(2) == 1
    assert await world.directory.compact_file_counts(2) == 0
    assert await kept() == 1


async def test_deleting_an_ingestion_leaves_no_counts(world: World, database: AsyncEngine) -> None:
    ingestion = await world.ingestion()
    await world.discover(ingestion, 10)
    await world.claim(ingestion, files=5)
    await world.directory.compact_file_counts(100)
    async with world.begin() as tx:
        assert await tx.ingestions.delete(ingestion.id)
    await world.directory.compact_file_counts(100)
    async with database.connect() as connection:
        assert await connection.scalar(_KEPT) == 0


async def test_a_tenant_that_goes_takes_its_counts_with_it(world: World, database: AsyncEngine) -> None:
    await world.discover(await world.ingestion(), 10)
    async with database.begin() as connection:
        await connection.execute(text("DELETE FROM tenants WHERE id = :id"), {"id": world.tenant.id})
    await world.directory.compact_file_counts(100)
    async with database.connect() as connection:
        assert await connection.scalar(_KEPT) == 0


async def test_no_change_of_several_ingestions_at_once_is_mixed_up(world: World, database: AsyncEngine) -> None:
    ingestions = [await world.ingestion() for _ in range(3)]
    for number, ingestion in enumerate(ingestions, start=1):
        await world.discover(ingestion, stored_objects(number, size_bytes=number))
    async with database.begin() as connection:
        await connection.execute(text("UPDATE processed_files SET size_bytes = size_bytes * 10, status = 'SKIPPED', rows = 2"))
    found = await world.reader.stats([ingestion.id for ingestion in ingestions])
    skipped = [stats.of_status(FileStatus.SKIPPED) for stats in found]
    assert [(count.files, count.size_bytes, count.rows) for count in skipped] == [(1, 10, 2), (2, 40, 4), (3, 90, 6)]
    assert [stats.files for stats in found] == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 100])
async def test_sums_are_one_statement(world: World, database: AsyncEngine, statements: Statements, count: int) -> None:
    ids = [UUID(int=number) for number in range(count)]
    ingestion = await world.ingestion()
    statements.watch(database)
    with statements.exactly(1):
        await world.reader.stats(ids)
    with statements.exactly(1):
        await world.reader.run_totals(ids, ingestion.created_at, ingestion.created_at)
