"""Many connections at once, with real commits: what must happen once happens once, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.clock import SystemClock
from domain.errors import ConflictError, ConflictReason
from domain.ingestions.entities import EngineType, IngestionStatus
from domain.ledger.batch_processor import BatchFileProcessor, BatchSettings
from domain.ledger.entities import FileStatus, ProcessedFile
from domain.ledger.state_service import FileStateService
from domain.ports.unit_of_work import Subject, Topic
from domain.runs.entities import RunLimits, RunStatus
from domain.runs.pipeline import PipelineSettings, RunPipeline
from domain.runs.service import RunRequest, RunService
from persistence.database import open_database
from persistence.directory import SqlDirectory
from persistence.unit_of_work import SqlUnitOfWorkFactory
from tests.contracts.persistence.world import World, make_world
from tests.factories import NOW, a_principal, a_run, a_schedule, a_schema, a_schema_version, a_stored_object, stored_objects
from tests.fakes.scripted_engine import ScriptedEngine
from tests.workbench import CHECKPOINTS

WORKERS = 20


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_database(database_url, pool_size=WORKERS)
    yield engine
    await engine.dispose()


@pytest.fixture
async def world(database: AsyncEngine) -> World:
    return await make_world(SqlUnitOfWorkFactory(database), SqlDirectory(database), lambda _: pytest.fail("nothing is read here"))


@pytest.mark.scenario(75, 116, 146)
async def test_no_file_is_claimed_twice(world: World) -> None:
    ingestion = await world.ingestion()
    await world.discover(ingestion, 400)

    async def work() -> list[ProcessedFile]:
        mine: list[ProcessedFile] = []
        while True:
            _, files = await world.claim(ingestion, files=7)
            if not files:
                return mine
            mine += files

    claims = await asyncio.gather(*(work() for _ in range(WORKERS)))
    claimed = Counter(file.id for files in claims for file in files)
    assert len(claimed) == 400
    assert set(claimed.values()) == {1}
    stored = {file.id: file for file in await world.files(ingestion)}
    for file in (file for files in claims for file in files):
        assert stored[file.id] == file


@pytest.mark.scenario(34, 75, 116, 146)
@pytest.mark.parametrize("known", [True, False])
async def test_one_file_is_locked_once(world: World, known: bool) -> None:
    ingestion = await world.ingestion()
    service = FileStateService(world.unit_of_work, CHECKPOINTS, world.tenant.id)
    objects = [a_stored_object(etag=f"v{n}") for n in range(5)]
    if known:
        await world.discover(ingestion, objects)
    batches = [await world.open_batch(ingestion) for _ in range(WORKERS)]

    async def lock(turn: int) -> list[tuple[UUID, ProcessedFile]]:
        # In an order of one's own, so that they meet everywhere.
        order = objects[turn % 5 :] + objects[: turn % 5]
        locked = [(batches[turn].id, await service.lock_file_for_processing(batches[turn], object)) for object in order]
        return [(batch, file) for batch, file in locked if file is not None]

    won = [pair for pairs in await asyncio.gather(*(lock(turn) for turn in range(WORKERS))) for pair in pairs]
    assert Counter(file.path for _, file in won) == Counter({object.path: 1 for object in objects})
    assert {(file.batch_id, file.path) for file in await world.files(ingestion)} == {(batch, file.path) for batch, file in won}


async def test_runs_are_taken_once_and_within_their_limits_by_however_many(world: World) -> None:
    tenants = (world.tenant, world.other)
    runs = [await world.run(await world.ingestion(tenant)) for tenant in tenants for _ in range(12)]
    limits, took = RunLimits(per_tenant=3), list[list[Subject]]()
    while sum(map(len, took)) < len(runs):
        at_once = await asyncio.gather(*(world.directory.take_runs(2, limits, lease_seconds=60) for _ in range(WORKERS)))
        now = [run for taken in at_once for run in taken]
        assert Counter(run.tenant_id for run in now) == Counter({tenant.id: 3 for tenant in tenants})
        took.append(now)
        for run in now:
            async with world.unit_of_work(run.tenant_id) as tx:
                await tx.runs.update_status(run.id, RunStatus.CANCELLED, at=NOW)
    assert Counter(run.id for taken in took for run in taken) == Counter(run.id for run in runs)


async def test_an_object_listed_by_many_is_entered_once(world: World) -> None:
    ingestion = await world.ingestion()
    objects = stored_objects(200)

    async def discover() -> int:
        async with world.begin() as tx:
            return (await tx.files.record_discovered(ingestion.id, objects)).new

    assert sum(await asyncio.gather(*(discover() for _ in range(10)))) == 200
    assert len(await world.files(ingestion)) == 200


async def test_an_idempotency_key_is_claimed_once(world: World) -> None:
    async def claim() -> UUID | None:
        subject = uuid4()
        async with world.begin() as tx:
            earlier = await tx.idempotency_keys.claim("create", "key", "same", subject)
            # Whoever comes meanwhile must wait for the end of this transaction, and not miss the key.
            await asyncio.sleep(0)
        return earlier or subject

    assert len(set(await asyncio.gather(*(claim() for _ in range(50))))) == 1


async def test_a_key_is_taken_over_once(world: World) -> None:
    gone = uuid4()
    async with world.begin() as tx:
        await tx.idempotency_keys.claim("create", "key", "same", gone)

    async def take_over(subject: UUID) -> UUID | None:
        async with world.begin() as tx:
            taken = await tx.idempotency_keys.take_over("create", "key", gone, subject)
            await asyncio.sleep(0)
            return subject if taken else await tx.idempotency_keys.claim("create", "key", "same", subject)

    assert len(set(await asyncio.gather(*(take_over(uuid4()) for _ in range(50))))) == 1


async def test_a_key_is_free_again_when_its_claimant_fails(world: World) -> None:
    claimed, fail = asyncio.Event(), asyncio.Event()

    async def claim_and_fail() -> None:
        async with world.begin() as tx:
            await tx.idempotency_keys.claim("create", "key", "same", uuid4())
            claimed.set()
            await fail.wait()
            raise ConflictError(ConflictReason.RUN_ACTIVE, "no")

    async def claim(subject: UUID) -> UUID | None:
        async with world.begin() as tx:
            return await tx.idempotency_keys.claim("create", "key", "same", subject)

    failing = asyncio.create_task(claim_and_fail())
    await claimed.wait()
    waiting = asyncio.create_task(claim(uuid4()))
    fail.set()
    with pytest.raises(ConflictError):
        await failing
    assert await waiting is None


async def test_an_outbox_entry_is_taken_by_one(world: World) -> None:
    async with world.begin() as tx:
        for _ in range(30):
            await tx.outbox.add(Topic.RUN, uuid4())
    taken = await asyncio.gather(*(world.directory.take_outbox(5, visible_after_seconds=60) for _ in range(10)))
    assert Counter(Counter(entry.id for entries in taken for entry in entries).values()) == Counter({1: 30})


async def test_schema_versions_are_numbered_one_after_the_other(world: World) -> None:
    ingestion = await world.ingestion()

    async def append() -> int:
        async with world.begin() as tx:
            latest = await tx.schema_versions.latest(ingestion.id)
            version = a_schema_version(ingestion_id=ingestion.id, version=latest.version + 1 if latest else 1, schema=a_schema())
            return (await tx.schema_versions.append(version)).version

    assert sorted(await asyncio.gather(*(append() for _ in range(10)))) == list(range(1, 11))


async def test_ten_schedulers_make_one_run_of_a_firing(world: World) -> None:
    ingestions = [await world.ingestion(status=IngestionStatus.ACTIVE, schedule=a_schedule(), next_due_at=NOW) for _ in range(3)]
    service = RunService(world.unit_of_work, SystemClock())
    queued = await asyncio.gather(*(service.fire_due_schedules(world.directory) for _ in range(10)))
    assert sum(queued) == 3
    for ingestion in ingestions:
        async with world.begin() as tx:
            assert len(await tx.runs.get_runs_by_ingestion(ingestion.id, limit=10)) == 1


class TestNobodyWaitsForEver:
    """Whoever queues a run holds the ingestion, and then waits for whoever holds its active run: which must not want the ingestion."""

    async def test_a_run_ends_while_another_is_asked_for(self, world: World, database: AsyncEngine) -> None:
        ingestion = await world.ingestion()
        run = await world.run(ingestion, started=True)
        pipeline = _ending_pipeline(world)
        async with world.begin() as tx:
            await tx.ingestions.get_by_id(ingestion.id, for_update=True)
            ending = asyncio.create_task(pipeline.complete(run))
            await _until_somebody_waits(database)
            with pytest.raises(ConflictError) as caught:
                await tx.runs.create(a_run(ingestion_id=ingestion.id))
        assert caught.value.reason is ConflictReason.RUN_ACTIVE
        assert (await ending).status is RunStatus.NO_NEW_FILES

    async def test_a_batch_is_marked_while_a_run_is_asked_for(self, world: World, database: AsyncEngine) -> None:
        ingestion = await world.ingestion()
        run = await world.run(ingestion, started=True)
        await world.discover(ingestion, 1)
        processor = BatchFileProcessor(world.unit_of_work, {EngineType.EMBEDDED: ScriptedEngine()}, BatchSettings())
        async with world.begin() as tx:
            await tx.ingestions.get_by_id(ingestion.id, for_update=True)
            working = asyncio.create_task(processor.process_files(run, ingestion, world.tenant.grants))
            await _until_somebody_waits(database)
            with pytest.raises(ConflictError):
                await tx.runs.create(a_run(ingestion_id=ingestion.id))
        assert (await working).files_processed == 1
        assert [file.status for file in await world.files(ingestion)] == [FileStatus.SUCCESS]

    async def test_many_ask_while_runs_come_and_go(self, world: World) -> None:
        ingestion = await world.ingestion()
        service, me = RunService(world.unit_of_work, SystemClock()), a_principal(world.tenant)
        pipeline = _ending_pipeline(world)

        refused: set[ConflictReason] = set()

        async def ask() -> int:
            done = 0
            for _ in range(5):
                try:
                    run = await service.run_ingestion(me, RunRequest(ingestion_id=ingestion.id))
                except ConflictError as error:
                    refused.add(error.reason)
                    continue
                async with world.begin() as tx:
                    await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW, lease_seconds=60)
                await pipeline.complete(run)
                done += 1
            return done

        assert sum(await asyncio.gather(*(ask() for _ in range(10)))) >= 1
        assert refused <= {ConflictReason.RUN_ACTIVE}


def _ending_pipeline(world: World) -> RunPipeline:
    """One that can end runs, and no more than that."""
    nothing: Any = None
    return RunPipeline(world.unit_of_work, world.directory, nothing, nothing, nothing, nothing, nothing, SystemClock(), PipelineSettings())


async def _until_somebody_waits(database: AsyncEngine) -> None:
    """Return once another session of this database waits for a lock."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    async with database.connect() as connection:
        while not await connection.scalar(waiting):
            await connection.rollback()
