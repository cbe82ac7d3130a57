"""What a `Reader` promises, for every declared relation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ledger.entities import FileAttempt, FileStatus, ProcessedFile
from domain.ports.reader import Edge, Page, Window
from domain.relations import (
    FILE_ATTEMPTS,
    INGESTION_FILES,
    INGESTION_RUNS,
    INGESTION_SCHEMA_VERSIONS,
    INGESTIONS,
    RUN_FILES,
    RUNS,
    IngestionFilter,
    NoFilter,
    ProcessedFileFilter,
    Relation,
    RunFileFilter,
    RunFilter,
)
from domain.runs.entities import Run, RunStatus, RunTrigger
from domain.schema_versions import SchemaVersion
from tests.contracts.persistence.tenant_scope import RELATIONS
from tests.contracts.persistence.world import World
from tests.factories import (
    BUCKET,
    NOW,
    a_principal,
    a_proposal,
    a_schema_version,
    a_stored_object,
    a_webhook,
    an_api_key,
    an_event,
    failed,
    loaded,
    needing,
    skipped,
)


def window(relation: Relation[Any], order: str | None = None, *, limit: int = 100, filter: object = None, **bounds: Any) -> Window:
    return Window(limit=limit, order=order or next(iter(relation.orders)), filter=filter or relation.filter(), **bounds)


async def page(world: World, relation: Relation[Any], parent: Any = None, **fields: Any) -> Page[Any]:
    (found,) = await world.reader.pages(relation, [parent], window(relation, **fields))
    return found


async def nodes(world: World, relation: Relation[Any], parent: Any = None, **fields: Any) -> list[Any]:
    return [edge.node for edge in (await page(world, relation, parent, **fields)).edges]


class NodesContract:
    async def test_by_ids_keeps_the_asked_order_with_gaps_and_repetitions(self, world: World) -> None:
        first, second = await world.ingestion(), await world.ingestion()
        asked = [second.id, uuid4(), first.id, second.id]
        assert await world.reader.by_ids(Ingestion, asked) == [second, None, first, second]
        assert await world.reader.by_ids(Ingestion, []) == []

    async def test_by_ids_for_each_entity(self, world: World) -> None:
        ingestion = await world.ingestion()
        run = await world.run(ingestion)
        await world.discover(ingestion, 1)
        batch, files = await world.claim(ingestion, run_id=run.id)
        async with world.begin() as tx:
            await tx.files.mark_success(batch, [loaded(files[0])], snapshot_id=1)
            version = await tx.schema_versions.append(a_schema_version(ingestion_id=ingestion.id))
        (attempt,) = await world.attempts(files[0])
        (file,) = await world.files(ingestion)
        assert await world.reader.by_ids(Run, [run.id]) == [run]
        assert await world.reader.by_ids(ProcessedFile, [file.id]) == [file]
        assert await world.reader.by_ids(FileAttempt, [attempt.id]) == [attempt]
        assert await world.reader.by_ids(SchemaVersion, [version.id]) == [version]

    @pytest.mark.parametrize("id", [-1, 0, 2**63 - 1, 2**63, -(2**63) - 1, 10**30])
    async def test_an_id_that_no_row_can_have_is_not_there(self, world: World, id: int) -> None:
        assert await world.reader.by_ids(ProcessedFile, [id]) == [None]


class PagesContract:
    async def test_ingestions_by_each_order(self, world: World) -> None:
        async def ingestion(name: str, minutes: int) -> Ingestion:
            return await world.ingestion(name=name, created_at=NOW + timedelta(minutes=minutes))

        b, a, upper, accent = [await ingestion(name, n) for n, name in enumerate(["b", "a", "B", "é"])]
        assert await nodes(world, INGESTIONS, order="OLDEST") == [b, a, upper, accent]
        assert await nodes(world, INGESTIONS, order="NEWEST") == [accent, upper, a, b]
        assert await nodes(world, INGESTIONS, order="NAME") == [upper, a, b, accent]

    async def test_equals_are_ordered_by_id(self, world: World) -> None:
        made = sorted([await world.ingestion(created_at=NOW) for _ in range(5)], key=lambda i: i.id)
        assert await nodes(world, INGESTIONS, order="OLDEST") == made
        assert await nodes(world, INGESTIONS, order="NEWEST") == made[::-1]

    async def test_ingestions_filtered(self, world: World) -> None:
        active = await world.ingestion(name="Orders 100%_a", status=IngestionStatus.ACTIVE)
        draft = await world.ingestion(name="returns ÄPFEL", status=IngestionStatus.DRAFT)

        async def found(**filter: Any) -> list[Ingestion]:
            return await nodes(world, INGESTIONS, order="NAME", filter=IngestionFilter(**filter))

        assert await found() == [active, draft]
        assert await found(status=(IngestionStatus.ACTIVE, IngestionStatus.PAUSED)) == [active]
        assert await found(status=()) == []
        assert await found(name_contains="ORD") == [active]
        assert await found(name_contains="100%_A") == [active]
        assert await found(name_contains="%") == [active]
        assert await found(name_contains="r_t") == []
        assert await found(name_contains="äpfel") == [draft]
        assert await found(name_contains="") == [active, draft]
        assert await found(name_contains="r", status=(IngestionStatus.DRAFT,)) == [draft]

    async def test_runs_filtered(self, world: World) -> None:
        first, second = await world.ingestion(), await world.ingestion()
        runs = [
            await world.run(first, status=RunStatus.SUCCESS, queued_at=NOW),
            await world.run(first, status=RunStatus.FAILED, trigger=RunTrigger.SCHEDULED, queued_at=NOW + timedelta(minutes=1)),
            await world.run(second, queued_at=NOW + timedelta(minutes=2)),
        ]

        async def found(**filter: Any) -> list[Run]:
            return await nodes(world, RUNS, order="OLDEST", filter=RunFilter(**filter))

        assert await found() == runs
        assert await found(ingestion_id=first.id) == runs[:2]
        assert await found(status=(RunStatus.FAILED,)) == runs[1:2]
        assert await found(trigger=(RunTrigger.MANUAL,)) == [runs[0], runs[2]]
        assert await found(since=runs[1].queued_at) == runs[1:]
        assert await found(until=runs[1].queued_at) == runs[:1]
        assert await nodes(world, INGESTION_RUNS, first.id, order="NEWEST") == [runs[1], runs[0]]
        assert await nodes(world, INGESTION_RUNS, second.id) == [runs[2]]

    async def test_files_of_an_ingestion(self, world: World) -> None:
        ingestion, run_id = await world.ingestion(), uuid4()
        await world.discover(ingestion, [a_stored_object(path) for path in ("a/1", "a/2", "a_/3", "b/4")])
        await world.claim(ingestion, files=1, run_id=run_id)
        files = (await world.files(ingestion))[::-1]

        async def found(**filter: Any) -> list[ProcessedFile]:
            return await nodes(world, INGESTION_FILES, ingestion.id, filter=ProcessedFileFilter(**filter))

        assert await found() == files
        assert await found(status=(FileStatus.PROCESSING,)) == files[3:]
        assert await found(path_prefix=f"{BUCKET}a/") == files[2:]
        assert await found(path_prefix=f"{BUCKET}a_") == files[1:2]
        assert await found(run_id=run_id) == files[3:]
        assert await found(run_id=uuid4()) == []

    async def test_files_of_a_run_are_what_it_tried_and_what_came_of_it_then(self, world: World) -> None:
        ingestion, first_run, second_run = await world.ingestion(), uuid4(), uuid4()
        await world.discover(ingestion, 3)
        batch, files = await world.claim(ingestion, run_id=first_run)
        async with world.begin() as tx:
            await tx.files.mark_skipped(batch, [skipped(files[2])])
            await tx.files.mark_success(batch, [loaded(files[0])], snapshot_id=1)
            await tx.files.mark_failed(batch, [failed(files[1])], max_retries=3, retry_base_seconds=0)
            await tx.files.requeue_due_failures(ingestion.id, max_retries=3)
        batch, again = await world.claim(ingestion, run_id=second_run)
        async with world.begin() as tx:
            await tx.files.mark_success(batch, [loaded(again[0])], snapshot_id=2)
        now = {file.id: file for file in await world.files(ingestion)}
        assert {file.status for file in now.values()} == {FileStatus.SUCCESS, FileStatus.SKIPPED}

        async def outcomes(run_id: UUID, **filter: Any) -> list[tuple[ProcessedFile, FileStatus]]:
            edges: Sequence[Edge[ProcessedFile]] = (await page(world, RUN_FILES, run_id, filter=RunFileFilter(**filter))).edges
            return [(edge.node, edge.link.outcome) for edge in edges if isinstance(edge.link, FileAttempt)]

        a, b, c = (now[file.id] for file in files)
        everything = [(c, FileStatus.SKIPPED), (a, FileStatus.SUCCESS), (b, FileStatus.FAILED)]
        assert await outcomes(first_run) == everything
        assert await outcomes(second_run) == [(b, FileStatus.SUCCESS)]
        assert await outcomes(first_run, status=(FileStatus.FAILED,)) == everything[2:]
        assert await outcomes(first_run, path_prefix=a.path) == everything[1:2]
        assert await outcomes(uuid4()) == []
        attempts = await nodes(world, FILE_ATTEMPTS, b.id)
        assert [(attempt.run_id, attempt.outcome) for attempt in attempts] == [
            (second_run, FileStatus.SUCCESS),
            (first_run, FileStatus.FAILED),
        ]

    async def test_schema_versions_newest_first(self, world: World) -> None:
        ingestion = await world.ingestion()
        async with world.begin() as tx:
            versions = [
                await tx.schema_versions.append(a_schema_version(ingestion_id=ingestion.id, version=version)) for version in (1, 2, 3)
            ]
        assert await nodes(world, INGESTION_SCHEMA_VERSIONS, ingestion.id) == versions[::-1]
        assert await nodes(world, INGESTION_SCHEMA_VERSIONS, ingestion.id, filter=NoFilter(), limit=1) == versions[2:]

    async def test_pages_of_many_parents_are_aligned_with_them(self, world: World) -> None:
        ingestions = [await world.ingestion() for _ in range(3)]
        for count, ingestion in enumerate(ingestions):
            await world.discover(ingestion, count)
        asked = [ingestions[2].id, ingestions[0].id, uuid4(), ingestions[1].id, ingestions[2].id]
        pages = await world.reader.pages(INGESTION_FILES, asked, window(INGESTION_FILES, limit=1))
        assert [[edge.node.ingestion_id for edge in found.edges] for found in pages] == [
            [ingestions[2].id],
            [],
            [],
            [ingestions[1].id],
            [ingestions[2].id],
        ]
        assert [found.has_next for found in pages] == [True, False, False, False, True]
        assert await world.reader.counts(INGESTION_FILES, asked, ProcessedFileFilter()) == [2, 0, 0, 1, 2]
        assert await world.reader.pages(INGESTION_FILES, [], window(INGESTION_FILES)) == []
        assert await world.reader.counts(INGESTION_FILES, [], ProcessedFileFilter()) == []

    async def test_the_ends_of_a_page(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 4)
        everything = (await page(world, INGESTION_FILES, ingestion.id)).edges
        places = [edge.cursor for edge in everything]

        async def looked(**fields: Any) -> tuple[list[int], bool, bool]:
            found = await page(world, INGESTION_FILES, ingestion.id, **fields)
            return [places.index(edge.cursor) for edge in found.edges], found.has_previous, found.has_next

        assert await looked(limit=4) == ([0, 1, 2, 3], False, False)
        assert await looked(limit=2) == ([0, 1], False, True)
        assert await looked(limit=2, after=places[1]) == ([2, 3], True, False)
        assert await looked(limit=2, backward=True) == ([2, 3], True, False)
        assert await looked(limit=2, before=places[2], backward=True) == ([0, 1], False, True)
        assert await looked(limit=1, after=places[0], before=places[3]) == ([1], True, True)
        assert await looked(limit=1, after=places[0], before=places[3], backward=True) == ([2], True, True)
        assert await looked(limit=9, after=places[3]) == ([], True, False)
        assert await looked(limit=0) == ([], False, True)

    async def test_counts_under_a_filter(self, world: World) -> None:
        first, second = await world.ingestion(name="one"), await world.ingestion(name="two")
        await world.run(first, status=RunStatus.FAILED)
        await world.run(first, status=RunStatus.SUCCESS)
        assert await world.reader.counts(INGESTIONS, [None], IngestionFilter(name_contains="o")) == [2]
        assert await world.reader.counts(INGESTIONS, [None], IngestionFilter(name_contains="w")) == [1]
        assert await world.reader.counts(INGESTION_RUNS, [second.id, first.id], RunFilter(status=(RunStatus.FAILED,))) == [0, 1]


class EveryPageContract:
    @pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
    async def test_pages_of_any_size_turned_either_way_show_every_row_once(self, world: World, relation: Relation[Any]) -> None:
        parent = _parent(relation, await _five_of_each(world))
        for order in relation.orders:
            in_order = [edge.cursor for edge in (await page(world, relation, parent, order=order)).edges]
            assert len(in_order) == len(set(in_order)) >= 5
            for limit, backward in itertools.product((1, 2, 3, 5, 6), (False, True)):
                seen: list[Any] = []
                bound: dict[str, Any] = {}
                while True:
                    found = await page(world, relation, parent, order=order, limit=limit, backward=backward, **bound)
                    places = [edge.cursor for edge in found.edges]
                    seen = places + seen if backward else seen + places
                    if not (found.has_previous if backward else found.has_next):
                        break
                    bound = {"before": places[0]} if backward else {"after": places[-1]}
                assert seen == in_order, (order, limit, backward)


async def _five_of_each(world: World) -> tuple[UUID, UUID, int, UUID, UUID]:
    """An ingestion, a run, a file of that, a webhook and a schema change, each with five children of a kind.

    Some of these are equal in what they are sorted by.
    """
    ingestions = [await world.ingestion(created_at=NOW + timedelta(days=number // 2)) for number in range(5)]
    ingestion, runs, webhooks = ingestions[0], [], []
    for number in range(5):
        run = await world.run(ingestion, status=RunStatus.FAILED, queued_at=NOW + timedelta(days=number // 2))
        runs.append(run)
        async with world.begin() as tx:
            await tx.schema_versions.append(a_schema_version(ingestion_id=ingestion.id, version=number + 1))
            change = await tx.schema_changes.propose(**a_proposal(ingestion.id))
            key = await tx.api_keys.create(an_api_key(tenant_id=world.tenant.id), bytes([number]) * 32)
            await tx.audit.record(a_principal(world.tenant), "createApiKey", "ApiKey", key.id)
            hook = a_webhook(tenant_id=world.tenant.id, created_at=NOW + timedelta(days=number // 2))
            webhooks.append(await tx.webhooks.create(hook, b"sealed", at_most=5))
            for _ in range(5 if number == 0 else 0):
                await tx.webhooks.enqueue(an_event())
    await world.discover(ingestion, 5)
    for _ in range(5):
        batch, files = await world.claim(ingestion, run_id=runs[0].id)
        async with world.begin() as tx:
            await tx.files.mark_failed(batch, [failed(file) for file in files], max_retries=9, retry_base_seconds=0)
            await tx.files.requeue_due_failures(ingestion.id, max_retries=9)
    await world.discover(ingestion, [a_stored_object() for _ in range(5)])
    batch, held = await world.claim(ingestion)
    async with world.begin() as tx:
        await tx.files.mark_held(batch, [needing(file) for file in held[5:]], {file.id: change.id for file in held[5:]})
    return ingestion.id, runs[0].id, files[0].id, webhooks[0].id, change.id


def _parent(relation: Relation[Any], parents: tuple[UUID, UUID, int, UUID, UUID]) -> Any:
    name = relation.link.parent if relation.link else relation.parent
    kinds = ("ingestion_id", "run_id", "file_id", "webhook_id", "schema_change_id")
    return dict(zip(kinds, parents, strict=True))[name] if name else None
