"""What the ledger says of an ingestion's files, and ingestions over a real database."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from domain.ingestions.entities import Ingestion
from domain.ingestions.inputs import IngestionCreate
from domain.ingestions.service import IngestionService
from domain.ledger.entities import FileStatus, ProcessedFile
from domain.ledger.state_service import ClearRequest, FileStateService
from domain.ports.unit_of_work import Subject
from tests.contracts.processing import process, running
from tests.factories import BUCKET, NOW, a_create_input, a_principal, a_stored_object
from tests.workbench import CHECKPOINTS, Workbench


@pytest.fixture
def state(bench: Workbench) -> FileStateService:
    return FileStateService(bench.unit_of_work, CHECKPOINTS, bench.tenant.id)


async def loaded_ingestion(bench: Workbench) -> tuple[Ingestion, dict[str, ProcessedFile]]:
    """With a file in each of the states that a run leaves, by name."""
    bench.land("good", "bad", "empty")
    bench.engine.bad[BUCKET + "bad"] = "not JSON"
    bench.engine.empty.add(BUCKET + "empty")
    ingestion = await bench.ingestion()
    run = await running(bench, ingestion)
    await process(bench, run, ingestion)
    bench.land("new")
    await bench.discovery.discover(ingestion, bench.tenant.grants, run)
    return ingestion, {file.path.removeprefix(BUCKET): file for file in await bench.files(ingestion)}


@pytest.mark.scenario(36)
async def test_processed_files_are_those_that_are_done_unless_others_are_asked_for(bench: Workbench, state: FileStateService) -> None:
    ingestion, files = await loaded_ingestion(bench)
    done = [file for file in files.values() if file.status in (FileStatus.SUCCESS, FileStatus.SKIPPED)]
    assert await state.get_processed_files(ingestion.id) == sorted(done, key=lambda file: file.id)
    assert await state.get_processed_files(ingestion.id, status=[FileStatus.PENDING]) == [files["new"]]


@pytest.mark.scenario(35)
async def test_a_locked_file_has_its_present_size_and_etag(bench: Workbench, state: FileStateService) -> None:
    ingestion, files = await loaded_ingestion(bench)
    async with bench.unit_of_work(bench.tenant.id) as tx:
        batch = await tx.batches.open(id=uuid4(), ingestion_id=ingestion.id, run_id=uuid4(), table_uuid=None, lease_seconds=60)
    present = a_stored_object("new", size_bytes=777, etag="v9")
    locked = await state.lock_file_for_processing(batch, present)
    assert locked is not None
    assert (locked.id, locked.stored_object, locked.status) == (files["new"].id, present, FileStatus.PROCESSING)


@pytest.mark.scenario(37)
async def test_failed_files_are_those_with_retries_left(bench: Workbench, state: FileStateService) -> None:
    _, files = await loaded_ingestion(bench)
    bad = files["bad"]
    assert await state.get_failed_files(bad.ingestion_id, max_retries=2) == [bad]
    assert await state.get_failed_files(bad.ingestion_id, max_retries=1) == []


@pytest.mark.scenario(38)
async def test_cleared_files_are_forgotten_and_may_come_again(bench: Workbench, state: FileStateService) -> None:
    _, files = await loaded_ingestion(bench)
    id = files["good"].ingestion_id
    assert await state.get_processed_file_paths(id, [BUCKET + "good", BUCKET + "bad"]) == {BUCKET + "good"}
    run = await bench.run(Subject(bench.tenant.id, files["good"].run_id))
    await bench.pipeline.complete(run)
    for prefix, count in ((BUCKET + "g", 1), (None, 3)):
        request = ClearRequest(ingestion_id=id, path_prefix=prefix, confirm=True)
        assert await state.clear_processed_files(a_principal(bench.tenant), request) == count
        await bench.resets.finish(Subject(bench.tenant.id, id))
    assert await state.get_processed_file_paths(id, [BUCKET + "good"]) == set()
    async with bench.unit_of_work(bench.tenant.id) as tx:
        assert (await tx.files.record_discovered(id, [a_stored_object("good")])).new == 1


@pytest.mark.scenario(25)
async def test_a_created_ingestion_is_in_the_database(bench: Workbench) -> None:
    bench.stores.add_location(BUCKET)
    service = IngestionService(bench.unit_of_work, bench.stores, bench.clock, CHECKPOINTS)
    created = await service.create_ingestion(a_principal(bench.tenant), IngestionCreate.parse(a_create_input()))
    assert await bench.stored(created) == created
    assert created.checkpoint_path == f"file:///checkpoints/{bench.tenant.id}/{created.id}/1"
    assert created.created_at == NOW


async def test_a_create_that_comes_fifty_times_is_made_once(bench: Workbench) -> None:
    bench.stores.add_location(BUCKET)
    service = IngestionService(bench.unit_of_work, bench.stores, bench.clock, CHECKPOINTS)
    input = IngestionCreate.parse(a_create_input(idempotency_key="k"))
    created = await asyncio.gather(*(service.create_ingestion(a_principal(bench.tenant), input) for _ in range(50)))
    assert len({ingestion.id for ingestion in created}) == 1
    assert len(await service.list_ingestions(a_principal(bench.tenant))) == 1
