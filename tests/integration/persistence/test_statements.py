"""Each question to the reader is one statement, and each call of the ledger a fixed number, whatever is asked for."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ledger import stepwise as stepwise_module
from domain.ledger.entities import ProcessedFile
from domain.ledger.stepwise import Changed, stepwise
from domain.ports.reader import Window
from domain.ports.repositories import FileSelection
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


@pytest.mark.parametrize("by_hand", [False, True])
async def test_files_are_changed_a_few_with_a_statement(
    world: World, database: AsyncEngine, statements: Statements, monkeypatch: pytest.MonkeyPatch, by_hand: bool
) -> None:
    monkeypatch.setattr(stepwise_module, "FILES_AT_ONCE", 2)
    ingestion = await world.ingestion()
    await world.discover(ingestion, 5)
    batch, files = await world.claim(ingestion)
    statements.watch(database)
    async with world.begin() as tx:
        await tx.files.mark_failed(batch, [failed(file) for file in files], max_retries=3, retry_base_seconds=0)
        change = (
            partial(tx.files.requeue, FileSelection(ingestion_id=ingestion.id))
            if by_hand
            else partial(tx.files.requeue_due_failures, ingestion.id, max_retries=3)
        )
        # Two, and one more of the three that the limit leaves.
        with statements.exactly(2):
            assert await stepwise(change, at_most=3) == Changed(3, more=True)
        # The two that are left, and none.
        with statements.exactly(2):
            assert await stepwise(change, at_most=3) == Changed(2)
        with statements.exactly(1):
            assert await stepwise(change) == Changed(0)


def _has_parents(relation: Relation[object]) -> bool:
    return relation.parent is not None or relation.link is not None


def _by_uuid(relation: Relation[object]) -> bool:
    return (relation.link.parent if relation.link else relation.parent) != "file_id"
