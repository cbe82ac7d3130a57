"""Turning pages: whatever the rows, the order, the filter, the page's size and the direction, and whatever comes and goes meanwhile.

Each row that is there from the first page to the last is seen exactly once, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from domain.ingestions.entities import Ingestion
from domain.ledger.entities import FileStatus, ProcessedFile
from domain.ports.reader import Edge, Window
from domain.relations import INGESTION_RUNS, INGESTIONS, RUN_FILES, IngestionFilter, Relation, RunFileFilter, RunFilter, Sort
from domain.runs.entities import Run, RunStatus
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_stored_object, an_ingestion, failed, loaded

MIXED = Relation(
    "ingestions in a mixed order",
    Ingestion,
    orders={"MIXED": (Sort("consecutive_failures", descending=True), Sort("created_at")), "OTHER": (Sort("created_at"), Sort("version"))},
    filter=IngestionFilter,
)
"""No declared relation mixes directions so far."""


@dataclass(frozen=True)
class Reading:
    relation: Relation[Any]
    order: str
    filter: object
    limit: int
    backward: bool


@dataclass(frozen=True)
class Story:
    """Rows to begin with, as small numbers of which many are equal, and what happens after each page: rows come and go."""

    rows: Sequence[tuple[int, int]]
    reading: Reading
    meanwhile: Sequence[tuple[int, tuple[int, int] | None]] = field(default_factory=tuple)
    """Which row goes (by its place, modulo), and what comes."""


numbers = st.tuples(st.integers(0, 3), st.integers(0, 2))


def readings(relation: Relation[Any], filters: Sequence[object]) -> st.SearchStrategy[Reading]:
    orders = st.sampled_from(sorted(relation.orders))
    return st.builds(Reading, st.just(relation), orders, st.sampled_from(filters), st.integers(1, 4), st.booleans())


def stories(reading: st.SearchStrategy[Reading]) -> st.SearchStrategy[Story]:
    meanwhile = st.lists(st.tuples(st.integers(0, 9), st.none() | numbers), max_size=4)
    return st.builds(Story, st.lists(numbers, max_size=9), reading, meanwhile)


ingestion_stories = stories(
    readings(INGESTIONS, [IngestionFilter(), IngestionFilter(name_contains="odd")])
    | readings(MIXED, [IngestionFilter(), IngestionFilter(name_contains="odd")])
)
run_stories = stories(readings(INGESTION_RUNS, [RunFilter(), RunFilter(status=(RunStatus.FAILED,)), RunFilter(since=NOW + timedelta(1))]))
file_stories = stories(readings(RUN_FILES, [RunFileFilter(), RunFileFilter(status=(FileStatus.FAILED,))]))


async def turn_ingestion_pages(world: World, story: Story) -> None:
    tenant = world.tenant

    async def come(row: tuple[int, int]) -> UUID:
        async with world.begin() as tx:
            prefix = "odd" if row[1] % 2 else "even"
            fields = {"created_at": NOW + timedelta(days=row[0]), "consecutive_failures": row[1], "version": row[1] + 1}
            ingestion = an_ingestion(tenant_id=tenant.id, **fields)
            made: Ingestion = await tx.ingestions.create(replace(ingestion, name=f"{prefix} {ingestion.name}"))
            return made.id

    async def go(id: UUID) -> None:
        async with world.begin() as tx:
            await tx.ingestions.delete(id)

    await _turn_pages(world, story, None, come, go)


async def turn_run_pages(world: World, story: Story) -> None:
    ingestion = await world.ingestion()

    async def come(row: tuple[int, int]) -> UUID:
        status = RunStatus.FAILED if row[1] % 2 else RunStatus.SUCCESS
        run: Run = await world.run(ingestion, status=status, queued_at=NOW + timedelta(days=row[0]))
        return run.id

    await _turn_pages(world, story, ingestion.id, come, None)


async def turn_file_pages(world: World, story: Story) -> None:
    """Of a run, through its attempts; a file goes when it is cleared."""
    ingestion = await world.ingestion()
    run = await world.run(ingestion)

    async def come(row: tuple[int, int]) -> int:
        batch = await world.open_batch(ingestion, run_id=run.id)
        async with world.begin() as tx:
            file = await tx.files.lock_file_for_processing(batch, a_stored_object())
            if row[1] % 2:
                await tx.files.mark_failed(batch, [failed(file)], max_retries=0, retry_base_seconds=0)
            else:
                await tx.files.mark_success(batch, [loaded(file)], snapshot_id=1)
        return int(file.id)

    async def go(id: int) -> None:
        (file,) = await world.reader.by_ids(ProcessedFile, [id])
        assert file is not None
        async with world.begin() as tx:
            await tx.files.delete_by_ingestion(ingestion.id, path_prefix=file.path)

    await _turn_pages(world, story, run.id, come, go)


async def _turn_pages(world: World, story: Story, parent: Any, come: Any, go: Any) -> None:
    alive = [await come(row) for row in story.rows]
    reading, meanwhile = story.reading, list(story.meanwhile)
    in_order = [edge.node.id for edge in await _all(world, reading, parent)]
    survivors = set(in_order)
    seen: list[Any] = []
    cursor = None
    while True:
        bound = {"before" if reading.backward else "after": cursor} if cursor else {}
        window = Window(reading.limit, reading.order, reading.filter, backward=reading.backward, **bound)
        (page,) = await world.reader.pages(reading.relation, [parent], window)
        ids = [edge.node.id for edge in page.edges]
        assert len(ids) <= reading.limit
        seen += ids[::-1] if reading.backward else ids
        if not (page.has_previous if reading.backward else page.has_next):
            break
        cursor = page.edges[0 if reading.backward else -1].cursor
        if meanwhile:
            place, comes = meanwhile.pop()
            if go is not None and alive:
                gone = alive.pop(place % len(alive))
                survivors.discard(gone)
                await go(gone)
            if comes is not None:
                alive.append(await come(comes))
    assert len(seen) == len(set(seen)), "a row twice"
    expected = [id for id in (reversed(in_order) if reading.backward else in_order) if id in survivors]
    assert [id for id in seen if id in survivors] == expected
    (count,) = await world.reader.counts(reading.relation, [parent], reading.filter)
    assert count == len(await _all(world, reading, parent))


async def _all(world: World, reading: Reading, parent: Any) -> Sequence[Edge[Any]]:
    (page,) = await world.reader.pages(reading.relation, [parent], Window(10_000, reading.order, reading.filter))
    assert not page.has_next
    keys = reading.relation.sort_keys(reading.order)
    for one, next in zip(page.edges, page.edges[1:], strict=False):
        assert _stands_before(one.cursor, next.cursor, keys)
    return page.edges


def _stands_before(one: tuple[Any, ...], other: tuple[Any, ...], keys: Sequence[Sort]) -> bool:
    for mine, theirs, key in zip(one, other, keys, strict=True):
        if mine != theirs:
            return bool(mine < theirs) != key.descending
    return False
