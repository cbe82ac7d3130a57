"""Why a file is, or is not, in the table: for what it waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.ingestions.entities import ChangedFilePolicy, Ingestion, IngestionStatus, Policies
from domain.ledger.explanation import ExplainRequest, ExplanationService, FileExplanation, FileState
from domain.ports.repositories import FileSelection
from domain.runs.entities import RunStatus, RunTrigger
from tests.contracts.persistence.world import World, make_world
from tests.factories import BUCKET, NOW, a_notified_source, a_principal, a_schedule, a_source, a_stored_object, failed, loaded, skipped
from tests.fakes.clock import FakeClock
from tests.fakes.database import FakeDatabase
from tests.fakes.directory import FakeDirectory
from tests.fakes.object_store import FakeObjectStores
from tests.fakes.reader import FakeReader
from tests.fakes.unit_of_work import FakeUnitOfWorkFactory

PATH = f"{BUCKET}a.json"
BY_HAND = "the next run loads it, which somebody has to ask for: "


@dataclass
class Desk:
    world: World
    stores: FakeObjectStores
    service: ExplanationService

    async def explain(self, ingestion: Ingestion, path: str = PATH) -> FileExplanation:
        request = ExplainRequest(ingestion_id=ingestion.id, path=path)
        return await self.service.explain(a_principal(self.world.tenant), request)

    async def said(self, ingestion: Ingestion, path: str = PATH) -> tuple[FileState, str]:
        explanation = await self.explain(ingestion, path)
        return explanation.state, explanation.explanation


@pytest.fixture
async def desk() -> Desk:
    memory, stores = FakeDatabase(), FakeObjectStores()
    stores.add_location(BUCKET)
    begin = FakeUnitOfWorkFactory(memory)
    world = await make_world(begin, FakeDirectory(memory), lambda id: FakeReader(memory, id))
    return Desk(world, stores, ExplanationService(begin, stores, FakeClock(NOW)))


async def waiting(desk: Desk, **fields: Any) -> Ingestion:
    """An ingestion with a file that is PENDING, and is there."""
    ingestion = await desk.world.ingestion(**fields)
    await desk.world.discover(ingestion, [desk.stores.put(PATH, b"{}")])
    return ingestion


@pytest.mark.parametrize(
    ("fields", "state", "said"),
    [
        ({}, FileState.WAITING, BY_HAND + "no schedule fires"),
        ({"schedule": a_schedule()}, FileState.WAITING, BY_HAND + "its schedule rests while it is DRAFT"),
        (
            {"schedule": a_schedule(), "status": IngestionStatus.ERROR},
            FileState.WAITING,
            BY_HAND + "its schedule rests while it is ERROR",
        ),
        (
            {"schedule": a_schedule(), "status": IngestionStatus.ACTIVE, "next_due_at": NOW + timedelta(hours=1)},
            FileState.WAITING,
            "the next run loads it, by the schedule at 2026-03-02T13:00:00+00:00",
        ),
        (
            {"schedule": a_schedule(), "status": IngestionStatus.PAUSED},
            FileState.WAITING_FOR_PERSON,
            "the next run loads it, once the ingestion, which is PAUSED, is resumed",
        ),
        ({"status": IngestionStatus.DELETING}, FileState.WAITING_FOR_PERSON, "no run starts any more: the ingestion is being deleted"),
    ],
)
async def test_a_pending_file_waits_for_the_next_run(desk: Desk, fields: dict[str, Any], state: FileState, said: str) -> None:
    assert await desk.said(await waiting(desk, **fields)) == (state, said)


async def test_a_pending_file_waits_for_a_runs_slot_and_then_for_the_run(desk: Desk) -> None:
    ingestion = await waiting(desk)
    run = await desk.world.run(ingestion)
    assert await desk.said(ingestion) == (FileState.WAITING, f"run {run.id} loads it, and waits for a free slot")
    async with desk.world.begin() as tx:
        await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW, lease_seconds=60)
    assert await desk.said(ingestion) == (FileState.WAITING, f"run {run.id} is under way; this run or the next one loads it")
    batch, _ = await desk.world.claim(ingestion, run_id=run.id)
    assert await desk.said(ingestion) == (FileState.LOADING, f"run {run.id} has it in hand, in batch {batch.id}")


async def test_a_retry_loads_what_it_tries_again_and_nothing_else(desk: Desk) -> None:
    ingestion = await waiting(desk)
    batch, [file] = await desk.world.claim(ingestion)
    async with desk.world.begin() as tx:
        await tx.files.mark_failed(batch, [failed(file)], max_retries=3, retry_base_seconds=60)
    other = desk.stores.put(f"{BUCKET}b.json", b"{}")
    await desk.world.discover(ingestion, [other])
    retry = await desk.world.run(ingestion, trigger=RunTrigger.RETRY, retry_of_id=batch.run_id, lists=False)
    async with desk.world.begin() as tx:
        assert len(await tx.files.assign_unloaded(ingestion.id, of_run=batch.run_id, to_run=retry.id)) == 1
    assert await desk.said(ingestion) == (FileState.WAITING, f"run {retry.id} loads it, and waits for a free slot")
    assert await desk.said(ingestion, other.path) == (
        FileState.WAITING,
        f"the run after {retry.id} loads it: that one takes only the files that it tries again",
    )


async def test_a_file_of_a_run_that_has_ended_is_being_settled(desk: Desk) -> None:
    ingestion = await waiting(desk)
    run = await desk.world.run(ingestion, started=True)
    await desk.world.claim(ingestion, run_id=run.id)
    async with desk.world.begin() as tx:
        await tx.runs.update_status(run.id, RunStatus.FAILED, at=NOW)
    assert await desk.said(ingestion) == (
        FileState.LOADING,
        f"run {run.id} had it in hand and has ended; whether it is in the table is being settled",
    )


@pytest.mark.parametrize("outcome", [failed, skipped])
async def test_an_unloaded_file_with_new_content_waits_for_the_listing_that_finds_it(desk: Desk, outcome: Any) -> None:
    ingestion = await waiting(desk, source=a_source(min_age_seconds=60))
    batch, [file] = await desk.world.claim(ingestion)
    async with desk.world.begin() as tx:
        if outcome is failed:
            await tx.files.mark_failed(batch, [failed(file, "not JSON")], max_retries=1, retry_base_seconds=60)
        else:
            await tx.files.mark_skipped(batch, [skipped(file)])
    before = await desk.explain(ingestion)
    assert before.state is (FileState.WAITING_FOR_PERSON if outcome is failed else FileState.SKIPPED)
    desk.stores.put(PATH, b"other", modified_at=NOW)
    state, said = await desk.said(ingestion)
    assert (state, "it has been overwritten since, and it is taken once it is at least 60 seconds old" in said) == (
        FileState.WAITING_FOR_AGE,
        True,
    )
    desk.stores.put(PATH, b"other", modified_at=NOW - timedelta(seconds=60))
    state, said = await desk.said(ingestion)
    assert (state, said.endswith(f"; it has been overwritten since, and {BY_HAND}no schedule fires")) == (FileState.WAITING, True)


async def test_a_failed_file_past_a_limit_that_was_lowered_waits_for_a_person(desk: Desk) -> None:
    ingestion = await waiting(desk, policies=Policies(max_file_retries=1))
    batch, [file] = await desk.world.claim(ingestion)
    async with desk.world.begin() as tx:
        await tx.files.mark_failed(batch, [failed(file, "not JSON")], max_retries=3, retry_base_seconds=60)
    assert await desk.said(ingestion) == (
        FileState.WAITING_FOR_PERSON,
        "it has failed once, at last with: not JSON; it is not tried again by itself",
    )


async def test_a_file_that_has_gone_is_said_to_wait_in_vain(desk: Desk) -> None:
    ingestion = await waiting(desk)
    desk.stores.delete(PATH)
    assert await desk.said(ingestion) == (FileState.WAITING, BY_HAND + "no schedule fires; but it has gone from the source")


@pytest.mark.parametrize(("status", "state"), [("ACTIVE", FileState.WAITING_FOR_RETRY), ("PAUSED", FileState.WAITING_FOR_PERSON)])
async def test_a_failed_file_waits_for_its_retry_and_while_paused_for_a_person(desk: Desk, status: str, state: FileState) -> None:
    ingestion = await waiting(desk, status=IngestionStatus(status))
    batch, [file] = await desk.world.claim(ingestion)
    async with desk.world.begin() as tx:
        await tx.files.mark_failed(batch, [failed(file, "not JSON")], max_retries=3, retry_base_seconds=60)
    found, said = await desk.said(ingestion)
    assert found is state
    assert said.startswith("it has failed once, at last with: not JSON; ")
    assert ("which is PAUSED, is resumed" in said) == (status == "PAUSED")


async def test_a_young_file_is_told_when_it_is_old_enough(desk: Desk) -> None:
    ingestion = await desk.world.ingestion(source=a_source(min_age_seconds=60))
    desk.stores.put(PATH, b"{}", modified_at=NOW - timedelta(seconds=59))
    assert await desk.said(ingestion) == (
        FileState.WAITING_FOR_AGE,
        "it is taken once it is at least 60 seconds old, for a younger file may still be being written: "
        f"from 2026-03-02T12:00:01+00:00 on; {BY_HAND}no schedule fires",
    )
    desk.stores.put(PATH, b"{}", modified_at=NOW - timedelta(seconds=60))
    assert (await desk.said(ingestion))[0] is FileState.NOT_LISTED_YET


async def test_a_young_file_that_another_filter_leaves_out_does_not_wait(desk: Desk) -> None:
    ingestion = await desk.world.ingestion(source=a_source(min_age_seconds=60, glob="*.csv"))
    desk.stores.put(PATH, b"{}", modified_at=NOW)
    assert await desk.said(ingestion) == (FileState.FILTERED_OUT, "the ingestion takes only what is: a path that matches *.csv")


async def test_a_file_from_the_end_of_time_has_an_explanation(desk: Desk) -> None:
    ingestion = await desk.world.ingestion(source=a_source(min_age_seconds=60))
    desk.stores.put(PATH, b"{}", modified_at=datetime.max.replace(tzinfo=UTC))
    assert (await desk.explain(ingestion)).state is FileState.WAITING_FOR_AGE


async def test_a_path_outside_the_source_is_not_looked_for(desk: Desk) -> None:
    ingestion = await desk.world.ingestion()
    outside = a_stored_object("s3://elsewhere/a.json").path
    explanation = await desk.explain(ingestion, outside)
    assert (explanation.state, explanation.at_source) == (FileState.OUTSIDE_SOURCE, None)


async def test_what_becomes_of_a_loaded_file_that_has_changed(desk: Desk) -> None:
    for policy, becomes in {
        ChangedFilePolicy.IGNORE: "the policy for changed files lets it be",
        ChangedFilePolicy.APPEND: f"its rows are added to those by the policy for changed files; {BY_HAND}no schedule fires",
        ChangedFilePolicy.REPLACE: f"its rows take the place of those by the policy for changed files; {BY_HAND}no schedule fires",
    }.items():
        ingestion = await desk.world.ingestion(policies=Policies(changed_files=policy))
        await desk.world.discover(ingestion, [desk.stores.put(PATH, b"old")])
        batch, [file] = await desk.world.claim(ingestion)
        async with desk.world.begin() as tx:
            await tx.files.mark_success(batch, [loaded(file, rows=3)], snapshot_id=1)
        desk.stores.put(PATH, b"new")
        state, said = await desk.said(ingestion)
        assert (state, said.partition("; ")[2]) == (FileState.LOADED_THEN_CHANGED, f"it has been overwritten since, and {becomes}")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (ChangedFilePolicy.APPEND, "the 3 rows of earlier versions stay in the table"),
        (ChangedFilePolicy.REPLACE, "until it is loaded, the 3 rows of earlier versions stay in the table"),
    ],
)
async def test_a_new_version_says_what_is_there_meanwhile(desk: Desk, policy: ChangedFilePolicy, said: str) -> None:
    ingestion = await waiting(desk)
    batch, [first] = await desk.world.claim(ingestion)
    async with desk.world.begin() as tx:
        await tx.files.mark_success(batch, [loaded(first, rows=3)], snapshot_id=1)
    await desk.world.discover(ingestion, [desk.stores.put(PATH, b"new")], changed_files=policy)
    explained = await desk.explain(ingestion)
    assert (explained.state, explained.explanation) == (FileState.WAITING, f"{BY_HAND}no schedule fires; {said}")
    assert [version.id for version in explained.earlier_versions] == [first.id]
    async with desk.world.begin() as tx:
        await tx.files.skip(FileSelection(ingestion_id=ingestion.id), reason="not this one")
    explained = await desk.explain(ingestion)
    assert explained.explanation == "it was left out: not this one; the 3 rows of earlier versions stay in the table"


async def test_what_no_notification_has_told_of(desk: Desk) -> None:
    source = a_notified_source(list_every_seconds=3_600)
    ingestion = await desk.world.ingestion(source=source, status=IngestionStatus.ACTIVE)
    async with desk.world.begin() as tx:
        await tx.ingestions.set_last_listed(ingestion.id, NOW)
    desk.stores.put(PATH, b"{}")
    brings = "its notification brings it, or else the listing that is due at 2026-03-02T13:00:00+00:00"
    waits = "the next run loads it, which begins by itself"
    said = f"no notification of it has been received since the last listing; {brings}; {waits}"
    assert await desk.said(ingestion) == (FileState.NOT_LISTED_YET, said)
    await desk.world.discover(ingestion, [desk.stores.objects[PATH]])
    assert await desk.said(ingestion) == (FileState.WAITING, waits)
