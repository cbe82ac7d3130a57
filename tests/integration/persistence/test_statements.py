"""Each question to the reader is one statement, and each call of the ledger a fixed number, whatever is asked for."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ledger.entities import ProcessedFile
from domain.ports.reader import Window
from domain.relations import Relation
from domain.runs.entities import Run
from tests.contracts.persistence.tenant_scope import RELATIONS
from tests.contracts.persistence.world import World
from tests.factories import failed, loaded, skipped, stored_objects
from tests.fixtures.statements import Statements


async def test_nodes_by_id_are_one_statement(world: World, database: AsyncEngine, statements: Statements) -> None:
    statements.watch(database)
    for count in (1, 100):
        with statements.exactly(1):
            await world.reader.by_ids(Run, [uuid4() for _ in range(count)])
        with statements.exactly(1):
            await world.reader.by_ids(ProcessedFile, range(count))


async def test_pages_and_counts_of_every_relation_are_one_statement(world: World, database: AsyncEngine, statements: Statements) -> None:
    statements.watch(database)
    for relation in RELATIONS:
        for count in (1, 100) if _has_parents(relation) else (1,):
            parents = [(uuid4() if _by_uuid(relation) else number) if _has_parents(relation) else None for number in range(count)]
            for order in relation.orders:
                for backward in (False, True):
                    with statements.exactly(1):
                        await world.reader.pages(relation, parents, Window(10, order, relation.filter(), backward=backward))
            with statements.exactly(1):
                await world.reader.counts(relation, parents, relation.filter())


@pytest.mark.parametrize("count", [3, 300])
async def test_the_ledgers_calls_do_not_grow_with_the_files(
    world: World, database: AsyncEngine, statements: Statements, count: int
) -> None:
    ingestion, objects = await world.ingestion(), stored_objects(count)
    batch = await world.open_batch(ingestion)
    statements.watch(database)
    async with world.begin() as tx:
        with statements.exactly(2):
            await tx.files.record_discovered(ingestion.id, objects)
        with statements.exactly(1):
            await tx.files.record_discovered(ingestion.id, objects)
        with statements.exactly(1):
            files = await tx.files.claim(batch, max_files=count, max_bytes=2**40)
        third = count // 3
        with statements.exactly(1):
            await tx.files.mark_success(batch, [loaded(file) for file in files[:third]], snapshot_id=1)
        with statements.exactly(1):
            await tx.files.mark_skipped(batch, [skipped(file) for file in files[third : 2 * third]])
        with statements.exactly(1):
            await tx.files.mark_failed(batch, [failed(file) for file in files[2 * third :]], max_retries=3, retry_base_seconds=0)
        with statements.exactly(1):
            await tx.files.requeue_due_failures(ingestion.id, max_retries=3)
        with statements.exactly(1):
            await tx.files.get_processed_file_paths(ingestion.id, [object.path for object in objects])
        with statements.exactly(0):
            await tx.files.mark_success(batch, [], snapshot_id=1)
            await tx.files.record_discovered(ingestion.id, [])


def _has_parents(relation: Relation[object]) -> bool:
    return relation.parent is not None or relation.link is not None


def _by_uuid(relation: Relation[object]) -> bool:
    return (relation.link.parent if relation.link else relation.parent) != "file_id"
