"""The second lock: what a statement without its tenant condition sees and changes is the tenant's own all the same."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.relations import INGESTION_FILES, ProcessedFileFilter
from persistence.database import connection, transaction
from persistence.mapping import values_of
from persistence.relations import count_statement
from persistence.row_security import DIRECTORY_GRANTS, DIRECTORY_ROLE, TENANT_GRANTS, TENANT_ROLE, protection_of
from persistence.tables import audit_events, metadata, processed_files, runs, tenants
from tests.contracts.persistence.tenant_scope import a_victim
from tests.contracts.persistence.world import World
from tests.factories import a_run, a_stored_object

OWNED = [table for table in metadata.sorted_tables if "tenant_id" in table.c]


@pytest.fixture
async def world_with_rows(world: World) -> World:
    """The first tenant has a row in every table."""
    await a_victim(world)
    return world


async def counted(opened: AsyncConnection) -> dict[str, int]:
    return {table.name: await opened.scalar(select(func.count()).select_from(table)) or 0 for table in OWNED}


async def test_every_table_that_tenants_own_is_protected_as_declared(database: AsyncEngine) -> None:
    """A new table fails here until its migration carries the statements of `protection_of`."""
    policies = "SELECT tablename, policyname, roles::text, qual FROM pg_policies WHERE schemaname = 'public'"
    async with database.connect() as opened:
        secured = set((await opened.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity"))).all())
        found = {(row.tablename, row.roles.strip("{}")): row.qual for row in (await opened.execute(text(policies))).all()}
    for table in metadata.sorted_tables:
        wanted = {role for role, grants in ((TENANT_ROLE, TENANT_GRANTS), (DIRECTORY_ROLE, DIRECTORY_GRANTS)) if table in grants}
        present = {role for name, role in found if name == table.name}
        assert table.name in secured, protection_of(table)
        assert present == wanted, protection_of(table)
    assert {qual for (_, role), qual in found.items() if role == DIRECTORY_ROLE} == {"true"}
    assert len({qual for (_, role), qual in found.items() if role == TENANT_ROLE}) == 1
    assert set(TENANT_GRANTS) == set(OWNED)


async def test_the_roles_own_nothing_and_are_no_superusers(database: AsyncEngine) -> None:
    attributes = "rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication"
    owned = "EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid)"
    async with database.connect() as opened:
        rows = await opened.execute(text(f"SELECT rolname, {attributes}, {owned} FROM pg_roles WHERE rolname LIKE 'autoloader\\_%'"))
        assert {tuple(row) for row in rows.all()} == {(TENANT_ROLE, False, False), (DIRECTORY_ROLE, False, False)}


async def test_the_application_acts_as_them(tenant_database: AsyncEngine, directory_database: AsyncEngine) -> None:
    for engine, role in ((tenant_database, TENANT_ROLE), (directory_database, DIRECTORY_ROLE)):
        async with connection(engine) as opened:
            assert await opened.scalar(text("SELECT current_user")) == role


async def test_a_statement_without_its_condition_reads_the_tenants_own(
    world_with_rows: World, database: AsyncEngine, tenant_database: AsyncEngine
) -> None:
    world = world_with_rows
    async with database.connect() as opened:
        everything = await counted(opened)
    assert all(everything.values()), everything
    for tenant, expected in ((world.other.id, dict.fromkeys(everything, 0)), (world.tenant.id, everything)):
        async with transaction(tenant_database, tenant) as opened:
            assert await counted(opened) == expected
        async with connection(tenant_database.execution_options(isolation_level="AUTOCOMMIT"), tenant) as opened:
            assert await counted(opened) == expected
    async with transaction(tenant_database) as opened:
        assert await counted(opened) == dict.fromkeys(everything, 0)
    async with connection(tenant_database) as opened:
        assert await counted(opened) == dict.fromkeys(everything, 0)


async def test_a_statement_without_its_condition_changes_the_tenants_own(
    world_with_rows: World, database: AsyncEngine, tenant_database: AsyncEngine
) -> None:
    async with database.connect() as opened:
        before = await counted(opened)
    for table in OWNED:
        if "UPDATE" in TENANT_GRANTS[table]:
            async with transaction(tenant_database, world_with_rows.other.id) as opened:
                assert (await opened.execute(update(table).values(tenant_id=world_with_rows.other.id))).rowcount == 0, table.name
                assert (await opened.execute(delete(table))).rowcount == 0, table.name
    async with database.connect() as opened:
        assert await counted(opened) == before


async def test_a_row_cannot_be_put_into_or_given_to_another_tenant(world: World, tenant_database: AsyncEngine) -> None:
    mine, theirs = await world.ingestion(), await world.ingestion(world.other)
    run = a_run(tenant_id=world.other.id, ingestion_id=theirs.id)
    assert "row-level security" in await refused(tenant_database, world.tenant.id, insert(runs).values(values_of(run)))
    own = await world.run(mine)
    moved = update(runs).where(runs.c.id == own.id).values(tenant_id=world.other.id, ingestion_id=theirs.id)
    assert "row-level security" in await refused(tenant_database, world.tenant.id, moved)
    assert replace(own) == await read(world, own.id)


async def test_nobody_rewrites_the_trail(world_with_rows: World, tenant_database: AsyncEngine, directory_database: AsyncEngine) -> None:
    for engine in (tenant_database, directory_database):
        for statement in (update(audit_events).values(actor="somebody else"), delete(audit_events)):
            assert "permission denied" in await refused(engine, world_with_rows.tenant.id, statement)


async def test_the_directory_reaches_no_further_than_its_chores(world: World, directory_database: AsyncEngine) -> None:
    for table in (processed_files, audit_events):
        assert "permission denied" in await refused(directory_database, world.tenant.id, select(table.c.id))
    assert "permission denied" in await refused(directory_database, world.tenant.id, delete(tenants))
    assert "permission denied" in await refused(directory_database, world.tenant.id, update(runs).values(error_message="x"))


async def test_a_tenants_connections_see_no_other_tenants_grants(world: World, tenant_database: AsyncEngine) -> None:
    assert "permission denied" in await refused(tenant_database, world.tenant.id, select(tenants.c.name))


async def test_a_connection_forgets_whom_its_transaction_was_for(world: World, tenant_database: AsyncEngine) -> None:
    setting = text("SELECT current_setting('autoloader.tenant_id', true)")
    async with transaction(tenant_database, world.tenant.id) as opened:
        assert await opened.scalar(setting) == str(world.tenant.id)
        async with opened.begin_nested() as savepoint:
            await savepoint.rollback()
        assert await opened.scalar(setting) == str(world.tenant.id)
    async with transaction(tenant_database) as opened:
        assert not await opened.scalar(setting)
    reading = tenant_database.execution_options(isolation_level="AUTOCOMMIT")
    for tenant in (world.tenant.id, world.other.id, world.tenant.id):
        async with connection(tenant_database, tenant) as opened:
            assert await opened.scalar(setting) == str(tenant)
        async with connection(reading, tenant) as opened:
            assert await opened.scalar(setting) == str(tenant)
        async with transaction(tenant_database, world.other.id) as opened:
            assert await opened.scalar(setting) == str(world.other.id)
        async with transaction(tenant_database) as opened:
            assert not await opened.scalar(setting)


async def refused(engine: AsyncEngine, tenant_id: UUID, statement: Any) -> str:
    """What the database says against it."""
    with pytest.raises(ProgrammingError) as caught:
        async with transaction(engine, tenant_id) as opened:
            await opened.execute(statement)
    return str(caught.value.orig)


async def read(world: World, run_id: UUID) -> Any:
    async with world.begin() as tx:
        return await tx.runs.get_by_id(run_id)


PREFIXES = ["", "a", "a/", "ab", "%", "_", "\\", "é", "a\ud7ff", f"a{chr(sys.maxunicode)}", chr(sys.maxunicode) * 2, "ÿ", "A", "zz"]


async def test_a_prefix_is_a_range_that_an_index_may_answer(world: World, tenant_database: AsyncEngine) -> None:
    """LIKE could tell of rows that the policy hides, so the planner keeps it away from indexes; comparisons it lets through."""
    ingestion = await world.ingestion()
    paths = sorted({"/" + prefix + rest for prefix in PREFIXES for rest in ("", "a", "\ue000", chr(sys.maxunicode), "0", "%")})
    await world.discover(ingestion, [a_stored_object(path) for path in paths])
    for prefix in PREFIXES:
        filter = ProcessedFileFilter(path_prefix="/" + prefix)
        expected = sum(path.startswith("/" + prefix) for path in paths)
        assert await world.reader.counts(INGESTION_FILES, [ingestion.id], filter) == [expected], prefix
    statement = count_statement(INGESTION_FILES, world.tenant.id, [ingestion.id], ProcessedFileFilter(path_prefix="/a"))
    async with transaction(tenant_database, world.tenant.id) as opened:
        await opened.execute(text("SET LOCAL enable_seqscan = off"))
        compiled = statement.compile(dialect=tenant_database.dialect, compile_kwargs={"render_postcompile": True})
        driver = (await opened.get_raw_connection()).driver_connection
        assert driver is not None
        plan = await driver.fetch(f"EXPLAIN {compiled}", *[compiled.params[name] for name in compiled.positiontup])
    assert any("Index Cond" in row[0] and "path >= '/a'" in row[0] for row in plan), plan
