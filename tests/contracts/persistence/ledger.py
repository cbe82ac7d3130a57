"""What a `ProcessedFileRepository` promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from domain.errors import ConflictError
from domain.ingestions.entities import Ingestion
from domain.ledger.entities import Batch, FileStatus, ProcessedFile
from domain.ports.engine import FileOutcome
from domain.ports.repositories import Discovered, FileSelection
from domain.ports.unit_of_work import UnitOfWork
from domain.relations import ProcessedFileFilter
from domain.runs.entities import RunStatus
from domain.schema_changes import SchemaChangeDecision
from domain.states import FILE
from tests.contracts.persistence.world import World
from tests.factories import (
    BUCKET,
    NOW,
    a_proposal,
    a_schema_version,
    a_stored_object,
    claimed,
    failed,
    loaded,
    needing,
    skipped,
    stored_objects,
)

_REACHED = [FileStatus.PENDING, FileStatus.PROCESSING, FileStatus.SUCCESS, FileStatus.FAILED, FileStatus.SKIPPED, FileStatus.HELD]
"""The statuses that `_file_in` can bring a file to."""
_OUTCOMES = {FileStatus.SUCCESS: loaded, FileStatus.FAILED: failed, FileStatus.SKIPPED: skipped, FileStatus.HELD: needing}
CHANGE = uuid4()
"""For which HELD files wait."""


class DiscoveryContract:
    async def test_unknown_objects_are_entered_as_pending(self, world: World) -> None:
        ingestion, object = await world.ingestion(), a_stored_object("a.json", size_bytes=2**40, etag="e", modified_at=NOW)
        async with world.begin() as tx:
            assert await tx.files.record_discovered(ingestion.id, [object]) == Discovered(new=1)
        (file,) = await world.files(ingestion)
        assert file.stored_object == object
        assert (file.status, file.tenant_id, file.ingestion_id, file.current) == (FileStatus.PENDING, world.tenant.id, ingestion.id, True)
        assert (file.run_id, file.batch_id, file.rows, file.retry_count, file.error_message) == (None, None, None, 0, None)

    async def test_known_objects_are_left_as_they_are(self, world: World) -> None:
        ingestion = await world.ingestion()
        objects = await world.discover(ingestion, 3)
        before = await world.files(ingestion)
        async with world.begin() as tx:
            assert await tx.files.record_discovered(ingestion.id, objects) == Discovered()
            assert await tx.files.record_discovered(ingestion.id, []) == Discovered()
            assert await tx.files.record_discovered(ingestion.id, [*objects, a_stored_object("new")]) == Discovered(new=1)
        assert (await world.files(ingestion))[:3] == before

    @pytest.mark.parametrize("status", [FileStatus.PENDING, FileStatus.FAILED, FileStatus.SKIPPED])
    async def test_an_unloaded_file_with_new_content_is_pending_anew(self, world: World, status: FileStatus) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, status)
        object = a_stored_object(file.path, size_bytes=7, etag="v2", modified_at=NOW + timedelta(hours=1))
        async with world.begin() as tx:
            assert await tx.files.record_discovered(ingestion.id, [object]) == Discovered(changed=1)
        (anew,) = await world.files(ingestion)
        assert (anew.id, anew.status, anew.stored_object) == (file.id, FileStatus.PENDING, object)
        assert (anew.retry_count, anew.next_retry_at, anew.error_message) == (0, None, None)

    @pytest.mark.parametrize("status", [FileStatus.SUCCESS, FileStatus.PROCESSING])
    async def test_a_loaded_file_and_one_in_work_stay(self, world: World, status: FileStatus) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, status)
        async with world.begin() as tx:
            assert await tx.files.record_discovered(ingestion.id, [a_stored_object(file.path, etag="v2")]) == Discovered()
        assert await world.files(ingestion) == [file]

    async def test_ingestions_do_not_share_files(self, world: World) -> None:
        first, second = await world.ingestion(), await world.ingestion()
        objects = await world.discover(first, 2)
        async with world.begin() as tx:
            assert await tx.files.record_discovered(second.id, objects) == Discovered(new=2)
        assert len(await world.files(first)) == 2

    async def test_any_path_that_is_unicode(self, world: World) -> None:
        ingestion = await world.ingestion()
        names = ["%20.json", "a b", "ü\u0308", "日本", "'; DROP TABLE x", "back\\slash", "line\nbreak", "𝒳", "{1}", "NULL", "a,b", '"q"']
        await world.discover(ingestion, [a_stored_object(name) for name in names])
        assert [file.path for file in await world.files(ingestion)] == [BUCKET + name for name in names]


class ClaimContract:
    async def test_the_oldest_pending_files_are_claimed_for_the_batch(self, world: World) -> None:
        ingestion, run_id = await world.ingestion(), uuid4()
        await world.discover(ingestion, 3)
        batch, files = await world.claim(ingestion, files=2, run_id=run_id)
        assert [file.path for file in files] == [o.path for o in stored_objects(2)]
        async with world.begin() as tx:
            assert await tx.files.batch_files(batch.id) == [claimed(file) for file in files]
        assert {(f.status, f.batch_id, f.run_id) for f in files} == {(FileStatus.PROCESSING, batch.id, run_id)}
        _, rest = await world.claim(ingestion, files=2)
        assert [file.path for file in rest] == [stored_objects(3)[2].path]
        assert (await world.claim(ingestion))[1] == []

    async def test_only_pending_files_are_claimed(self, world: World) -> None:
        ingestion = await world.ingestion()
        for status in (FileStatus.SUCCESS, FileStatus.FAILED, FileStatus.SKIPPED, FileStatus.PROCESSING):
            await _file_in(world, ingestion, status)
        pending = await _file_in(world, ingestion, FileStatus.PENDING)
        assert [file.id for file in (await world.claim(ingestion))[1]] == [pending.id]

    @pytest.mark.parametrize(
        ("max_bytes", "taken"),
        [(1, 1), (10, 1), (29, 1), (30, 2), (59, 2), (60, 3), (10**12, 3)],
    )
    async def test_a_claim_stops_before_its_bytes_go_past_the_limit_but_takes_one(self, world: World, max_bytes: int, taken: int) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, [a_stored_object(str(size), size_bytes=size) for size in (10, 20, 30)])
        batch = await world.open_batch(ingestion)
        async with world.begin() as tx:
            assert len(await tx.files.claim(batch, max_files=10, max_bytes=max_bytes)) == taken
        assert len(await world.files(ingestion)) == 3

    @pytest.mark.parametrize(("max_bytes", "taken"), [(9, 0), (10, 1), (30, 2)])
    async def test_a_claim_that_need_not_take_one_stays_within_the_limit(self, world: World, max_bytes: int, taken: int) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, [a_stored_object(str(size), size_bytes=size) for size in (10, 20, 30)])
        batch = await world.open_batch(ingestion)
        async with world.begin() as tx:
            assert len(await tx.files.claim(batch, max_files=10, max_bytes=max_bytes, at_least_one=False)) == taken

    async def test_empty_files_cost_no_bytes(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, [a_stored_object(str(n), size_bytes=0) for n in range(3)])
        batch = await world.open_batch(ingestion)
        async with world.begin() as tx:
            assert len(await tx.files.claim(batch, max_files=10, max_bytes=1)) == 3

    async def test_a_claim_that_is_rolled_back_leaves_the_files(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 2)
        before = await world.files(ingestion)
        batch = await world.open_batch(ingestion)
        with pytest.raises(ConflictError):
            await _claim_and_fail(world, batch)
        assert await world.files(ingestion) == before

    async def test_count_pending_counts_no_further_than_asked(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 5)
        await world.claim(ingestion, files=1)
        async with world.begin() as tx:
            assert await tx.files.count_pending(ingestion.id, at_most=3) == 3
            assert await tx.files.count_pending(ingestion.id, at_most=10) == 4
            assert await tx.files.count_pending(uuid4(), at_most=10) == 0

    @pytest.mark.scenario(76)
    async def test_lock_enters_an_unknown_file(self, world: World) -> None:
        ingestion, object = await world.ingestion(), a_stored_object("new.json")
        batch = await world.open_batch(ingestion)
        async with world.begin() as tx:
            locked = await tx.files.lock_file_for_processing(batch, object)
        assert (locked.status, locked.batch_id, locked.run_id) == (FileStatus.PROCESSING, batch.id, batch.run_id)
        assert locked.stored_object == object
        assert await world.files(ingestion) == [locked]

    @pytest.mark.scenario(35, 77)
    async def test_lock_updates_a_known_file(self, world: World) -> None:
        ingestion = await world.ingestion()
        known = await _file_in(world, ingestion, FileStatus.PENDING)
        object = a_stored_object(known.path, size_bytes=999, etag="v2", modified_at=NOW + timedelta(hours=1))
        batch = await world.open_batch(ingestion)
        async with world.begin() as tx:
            locked = await tx.files.lock_file_for_processing(batch, object)
        assert (locked.id, locked.status, locked.stored_object) == (known.id, FileStatus.PROCESSING, object)
        assert await world.files(ingestion) == [locked]

    @pytest.mark.parametrize("status", [FileStatus.PROCESSING, FileStatus.SUCCESS, FileStatus.SKIPPED, FileStatus.FAILED])
    async def test_lock_refuses_what_is_not_pending(self, world: World, status: FileStatus) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, status)
        batch = await world.open_batch(ingestion)
        async with world.begin() as tx:
            assert await tx.files.lock_file_for_processing(batch, file.stored_object) is None
        assert await world.files(ingestion) == [file]

    async def test_paths_are_claimed_as_far_as_they_wait(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        waiting = await _file_in(world, ingestion, FileStatus.PENDING)
        done = await _file_in(world, ingestion, FileStatus.SUCCESS)
        kept = await _file_in(world, ingestion, FileStatus.PENDING)
        same_path = a_stored_object(waiting.path)
        async with world.begin() as tx:
            await tx.files.record_discovered(other.id, [same_path])
        batch = await world.open_batch(ingestion)
        async with world.begin() as tx:
            taken = await tx.files.claim_paths(batch, [waiting.path, done.path, BUCKET + "unknown"])
        assert taken == [claimed(waiting)]
        now, *others = await world.files(ingestion)
        assert (now.id, now.status, now.batch_id, now.run_id) == (waiting.id, FileStatus.PROCESSING, batch.id, batch.run_id)
        assert others == [done, kept]
        assert [file.status for file in await world.files(other)] == [FileStatus.PENDING]


class LookupContract:
    async def test_ingestions_are_found_by_their_files(self, world: World) -> None:
        first, second, third = sorted([await world.ingestion() for _ in range(3)], key=lambda ingestion: ingestion.id)
        files = [await _file_in(world, ingestion, FileStatus.PENDING) for ingestion in (second, first, first, third)]
        async with world.begin() as tx:
            assert [i.id for i in await tx.ingestions.get_by_files([file.id for file in files[:3]])] == [first.id, second.id]
            assert await tx.ingestions.get_by_files([]) == []

    async def test_a_file_is_found_by_its_path(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        await world.discover(ingestion, 2)
        (first, _) = await world.files(ingestion)
        async with world.begin() as tx:
            assert await tx.files.get_by_path(ingestion.id, first.path) == first
            assert await tx.files.get_by_path(ingestion.id, first.path + "x") is None
            assert await tx.files.get_by_path(other.id, first.path) is None

    @pytest.mark.scenario(78)
    async def test_get_processed_file_paths_answers_for_the_given_paths_only(self, world: World) -> None:
        ingestion = await world.ingestion()
        by_status = {status: await _file_in(world, ingestion, status) for status in (*_OUTCOMES, FileStatus.PENDING, FileStatus.PROCESSING)}
        await _file_in(world, ingestion, FileStatus.SUCCESS)
        async with world.begin() as tx:
            asked = [*(file.path for file in by_status.values()), "s3://landing/unknown"]
            paths = await tx.files.get_processed_file_paths(ingestion.id, asked)
            assert await tx.files.get_processed_file_paths(ingestion.id, []) == set()
        assert paths == {by_status[FileStatus.SUCCESS].path, by_status[FileStatus.SKIPPED].path}

    @pytest.mark.scenario(79, 37)
    async def test_get_failed_files_with_retries_left(self, world: World) -> None:
        ingestion = await world.ingestion()
        files = [await _file_in(world, ingestion, FileStatus.FAILED, times=times) for times in (1, 2, 3, 1)]
        await _file_in(world, ingestion, FileStatus.SUCCESS)
        async with world.begin() as tx:
            assert await tx.files.get_failed_files(ingestion.id, max_retries=3, limit=10) == [files[0], files[1], files[3]]
            assert await tx.files.get_failed_files(ingestion.id, max_retries=2, limit=1) == [files[0]]
            assert await tx.files.get_failed_files(ingestion.id, max_retries=0, limit=10) == []

    async def test_get_processed_files_pages_by_id(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 3)
        done = [await _file_in(world, ingestion, status) for status in (FileStatus.SUCCESS, FileStatus.SKIPPED, FileStatus.SUCCESS)]
        wanted = [FileStatus.SUCCESS, FileStatus.SKIPPED]
        async with world.begin() as tx:
            assert await tx.files.get_processed_files(ingestion.id, status=wanted, limit=2) == done[:2]
            assert await tx.files.get_processed_files(ingestion.id, status=wanted, limit=2, after=done[1].id) == done[2:]
            assert await tx.files.get_processed_files(ingestion.id, status=[], limit=2) == []

    @pytest.mark.scenario(80, 147)
    async def test_get_stale_processing_files(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 5)
        _, stale = await world.claim(ingestion, files=2, lease_seconds=0)
        await world.claim(ingestion, files=1, lease_seconds=60)
        settled, _ = await world.claim(ingestion, files=1, lease_seconds=0)
        async with world.begin() as tx:
            await tx.batches.release(settled)
            found = await tx.files.get_stale_processing_files(ingestion.id, limit=10)
            assert [file.id for file in found] == [file.id for file in stale]
            assert await tx.files.get_stale_processing_files(ingestion.id, limit=1) == found[:1]

    @pytest.mark.scenario(84)
    async def test_delete_by_ingestion(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        loaded_file = await _file_in(world, ingestion, FileStatus.SUCCESS)
        await _file_in(world, ingestion, FileStatus.PENDING)
        kept = await _file_in(world, other, FileStatus.SUCCESS)
        async with world.begin() as tx:
            assert await tx.files.delete_by_ingestion(ingestion.id) == 2
        assert await world.files(ingestion) == []
        assert await world.attempts(loaded_file) == []
        assert await world.files(other) == [kept]
        assert len(await world.attempts(kept)) == 1

    async def test_delete_below_a_prefix_takes_it_literally(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, [a_stored_object(path) for path in ("a_1/x", "a_1/y", "ab1/x", "a%/x")])
        async with world.begin() as tx:
            assert await tx.files.delete_by_ingestion(ingestion.id, path_prefix=f"{BUCKET}a_") == 2
            assert await tx.files.delete_by_ingestion(ingestion.id, path_prefix=f"{BUCKET}a%") == 1
        assert [file.path for file in await world.files(ingestion)] == [f"{BUCKET}ab1/x"]

    async def test_files_are_deleted_so_many_at_once(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 5)
        async with world.begin() as tx:
            assert [await tx.files.delete_by_ingestion(ingestion.id, limit=2) for _ in range(4)] == [2, 2, 1, 0]

    async def test_files_by_path(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        names = ["é", "a", "Z", "a%", "𝒳", "b/c"]
        await world.discover(ingestion, [a_stored_object(name) for name in names])
        await world.discover(other, [a_stored_object("a0")])
        ordered = [BUCKET + name for name in ("Z", "a", "a%", "b/c", "é", "𝒳")]
        async with world.begin() as tx:
            first = await tx.files.get_by_path_order(ingestion.id, after=None, limit=4)
            rest = await tx.files.get_by_path_order(ingestion.id, after=first[-1].path, limit=4)
            assert [file.path for file in [*first, *rest]] == ordered == sorted(ordered)
            assert await tx.files.get_known_paths(ingestion.id, [BUCKET + "a", BUCKET + "a0", BUCKET + "é"]) == {BUCKET + "a", BUCKET + "é"}
            assert await tx.files.get_known_paths(ingestion.id, []) == set()

    async def test_files_are_counted_by_status_below_a_prefix(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        await _file_in(world, ingestion, FileStatus.SUCCESS)
        await _file_in(world, other, FileStatus.FAILED)
        await world.discover(ingestion, [a_stored_object(path) for path in ("a_1/x", "a_1/y", "ab1/x")])
        async with world.begin() as tx:
            assert await tx.files.count_by_status(ingestion.id) == {FileStatus.SUCCESS: 1, FileStatus.PENDING: 3}
            assert await tx.files.count_by_status(ingestion.id, path_prefix=f"{BUCKET}a_") == {FileStatus.PENDING: 2}
            assert await tx.files.count_by_status(uuid4()) == {}


class MarkContract:
    @pytest.mark.scenario(81)
    async def test_mark_success(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 2)
        batch, files = await world.claim(ingestion)
        async with world.begin() as tx:
            outcomes = [loaded(files[0], rows=2**40, rows_skipped=2, rows_rescued=3), loaded(files[1], rows=0)]
            assert await tx.files.mark_success(batch, outcomes, snapshot_id=2**62) == 2
        first, second = await world.files(ingestion)
        assert (first.status, first.rows, first.rows_skipped, first.rows_rescued) == (FileStatus.SUCCESS, 2**40, 2, 3)
        assert (first.snapshot_id, first.error_message, first.retry_count) == (2**62, None, 0)
        assert first.processed_at is not None
        assert (second.status, second.rows) == (FileStatus.SUCCESS, 0)
        (attempt,) = await world.attempts(first)
        assert (attempt.outcome, attempt.rows, attempt.rows_skipped, attempt.rows_rescued) == (FileStatus.SUCCESS, 2**40, 2, 3)
        assert (attempt.run_id, attempt.batch_id, attempt.file_id) == (batch.run_id, batch.id, first.id)

    @pytest.mark.scenario(82)
    async def test_mark_failed_counts_up_and_waits_twice_as_long_each_time(self, world: World) -> None:
        ingestion = await world.ingestion()
        for failures, wait in ((1, 600), (2, 1200), (3, None)):
            file = await _file_in(world, ingestion, FileStatus.FAILED, times=failures, max_retries=3)
            assert (file.status, file.retry_count, file.error_message) == (FileStatus.FAILED, failures, "not JSON")
            assert wait == (file.next_retry_at and round((file.next_retry_at - file.processed_at).total_seconds()))
            attempts = await world.attempts(file)
            assert [(a.outcome, a.error_message) for a in attempts] == [(FileStatus.FAILED, "not JSON")] * failures

    async def test_a_retry_waits_a_day_at_most(self, world: World) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, FileStatus.FAILED, times=3, max_retries=100, retry_base_seconds=50_000)
        assert round((file.next_retry_at - file.processed_at).total_seconds()) == 86_400

    @pytest.mark.scenario(83)
    async def test_mark_skipped(self, world: World) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, FileStatus.SKIPPED)
        assert (file.status, file.error_message, file.rows, file.next_retry_at) == (FileStatus.SKIPPED, "the file is empty", 0, None)
        (attempt,) = await world.attempts(file)
        assert (attempt.outcome, attempt.error_message) == (FileStatus.SKIPPED, "the file is empty")

    async def test_mark_held(self, world: World) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, FileStatus.HELD)
        assert (file.status, file.error_message, file.schema_change_id, file.rows) == (FileStatus.HELD, "it waits", CHANGE, 0)
        assert (file.retry_count, file.next_retry_at) == (0, None)
        (attempt,) = await world.attempts(file)
        assert (attempt.outcome, attempt.error_message) == (FileStatus.HELD, "it waits")

    async def test_what_is_held_is_released_and_says_what_it_waited_for_until_it_is_settled(self, world: World) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, FileStatus.HELD)
        await _file_in(world, ingestion, FileStatus.FAILED)
        async with world.begin() as tx:
            assert len(await tx.files.release_held(ingestion.id)) == 1
            assert len(await tx.files.release_held(ingestion.id)) == 0
        (released,) = [other for other in await world.files(ingestion) if other.id == file.id]
        assert (released.status, released.schema_change_id) == (FileStatus.PENDING, CHANGE)
        batch, files = await world.claim(ingestion)
        assert [claimed.schema_change_id for claimed in files] == [CHANGE]
        await _mark(world, batch, FileStatus.SUCCESS, [loaded(files[0])])
        (settled,) = [other for other in await world.files(ingestion) if other.id == file.id]
        assert (settled.status, settled.schema_change_id, settled.error_message) == (FileStatus.SUCCESS, None, None)

    async def test_what_was_held_before_the_newest_columns_is_outdated(self, world: World) -> None:
        ingestion = await world.ingestion()
        for version in (1, 2):
            await _file_in(world, ingestion, FileStatus.HELD)
            async with world.begin() as tx:
                assert len(await tx.files.release_held(ingestion.id, outdated=True)) == 0
                await tx.schema_versions.append(a_schema_version(ingestion_id=ingestion.id, version=version))
            async with world.begin() as tx:
                assert len(await tx.files.release_held(ingestion.id, outdated=True)) == 1

    async def test_what_was_held_for_a_change_that_is_decided_is_outdated(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 2)
        batch, (waiting, decided) = await world.claim(ingestion)
        async with world.begin() as tx:
            open_, change = [await tx.schema_changes.propose(**a_proposal(ingestion.id)) for _ in range(2)]
            await tx.files.mark_held(batch, [needing(waiting), needing(decided)], {waiting.id: open_.id, decided.id: change.id})
            assert await tx.files.release_held(ingestion.id, outdated=True) == []
            await tx.schema_changes.decide(replace(change, decision=SchemaChangeDecision.REJECTED, decided_at=NOW, decided_by="ann"))
            assert await tx.files.release_held(ingestion.id, outdated=True) == [decided.id]

    async def test_a_held_file_is_skipped_by_hand_but_not_retried(self, world: World) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, FileStatus.HELD)
        async with world.begin() as tx:
            assert len(await tx.files.requeue(FileSelection(ids=(file.id,)))) == 0
            assert len(await tx.files.skip(FileSelection(ids=(file.id,)), reason="not ours")) == 1
        (skipped_file,) = await world.files(ingestion)
        assert (skipped_file.status, skipped_file.error_message, skipped_file.schema_change_id) == (FileStatus.SKIPPED, "not ours", None)

    async def test_new_content_of_a_held_file_is_looked_at(self, world: World) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, FileStatus.HELD)
        await world.discover(ingestion, [a_stored_object(file.path, etag="other")])
        (changed,) = await world.files(ingestion)
        assert (changed.status, changed.schema_change_id, changed.error_message) == (FileStatus.PENDING, None, None)

    @pytest.mark.parametrize("status", _OUTCOMES)
    async def test_only_files_in_the_batchs_hands_are_marked(self, world: World, status: FileStatus) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 3)
        batch, _ = await world.claim(ingestion, files=1)
        _, of_other = await world.claim(ingestion, files=1)
        before = await world.files(ingestion)
        outcomes = [_OUTCOMES[status](file) for file in before[1:]] + [_OUTCOMES[status](10**12)]
        assert await _mark(world, batch, status, outcomes) == 0
        assert await world.files(ingestion) == before
        assert await world.attempts(of_other[0]) == []

    @pytest.mark.parametrize("status", _OUTCOMES)
    async def test_nothing_is_marked_twice(self, world: World, status: FileStatus) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 1)
        batch, files = await world.claim(ingestion)
        assert await _mark(world, batch, status, [_OUTCOMES[status](files[0])]) == 1
        marked = await world.files(ingestion)
        for again, outcome in _OUTCOMES.items():
            assert await _mark(world, batch, again, [outcome(files[0])]) == 0
            assert await _mark(world, batch, again, []) == 0
        assert await world.files(ingestion) == marked
        assert len(await world.attempts(files[0])) == 1

    async def test_a_message_may_hold_anything(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 1)
        batch, files = await world.claim(ingestion)
        poison = "at byte 3: 'a\0b\ud800' " + "x" * 10_000
        assert await _mark(world, batch, FileStatus.FAILED, [failed(files[0], poison)]) == 1
        (file,), (attempt,) = await world.files(ingestion), await world.attempts(files[0])
        assert file.error_message.startswith("at byte 3: 'a\N{REPLACEMENT CHARACTER}b?' xxx")
        assert len(file.error_message) == 4_000
        assert attempt.error_message == file.error_message

    async def test_release_gives_back_what_is_not_settled(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, 3)
        batch, files = await world.claim(ingestion, files=2)
        async with world.begin() as tx:
            await tx.files.mark_success(batch, [loaded(files[0])], snapshot_id=1)
            assert await tx.files.batch_files(batch.id) == [claimed(files[1])]
            assert await tx.files.release(batch) == 1
            assert await tx.files.batch_files(batch.id) == []
        assert [f.status for f in await world.files(ingestion)] == [FileStatus.SUCCESS, FileStatus.PENDING, FileStatus.PENDING]
        released = (await world.files(ingestion))[1]
        assert (released.batch_id, released.retry_count) == (None, 0)
        assert await world.attempts(released) == []

    async def test_requeue_takes_failures_whose_time_has_come_and_that_have_retries_left(self, world: World) -> None:
        ingestion = await world.ingestion()
        used_up = await _file_in(world, ingestion, FileStatus.FAILED, times=2, max_retries=2, retry_base_seconds=0)
        later = await _file_in(world, ingestion, FileStatus.FAILED, retry_base_seconds=600)
        due = await _file_in(world, ingestion, FileStatus.FAILED, retry_base_seconds=0)
        async with world.begin() as tx:
            assert not await tx.files.any_waiting(ingestion.id, max_retries=1)
            assert len(await tx.files.requeue_due_failures(ingestion.id, max_retries=1)) == 0
            assert await tx.files.any_waiting(ingestion.id, max_retries=2)
            assert len(await tx.files.requeue_due_failures(ingestion.id, max_retries=2)) == 1
            assert await tx.files.any_waiting(ingestion.id, max_retries=1), "it is PENDING"
            assert len(await tx.files.requeue_due_failures(ingestion.id, max_retries=2)) == 0
        requeued = replace(due, status=FileStatus.PENDING, next_retry_at=None)
        assert await world.files(ingestion) == [used_up, later, requeued]


async def _claim_and_fail(world: World, batch: Batch) -> None:
    async with world.begin() as tx:
        assert len(await tx.files.claim(batch, max_files=10, max_bytes=2**40)) == 2
        FILE.require(FileStatus.SUCCESS, FileStatus.PENDING)


async def _mark(
    world: World,
    batch: Batch,
    status: FileStatus,
    outcomes: Sequence[FileOutcome],
    *,
    max_retries: int = 3,
    retry_base_seconds: float = 600,
) -> int:
    async with world.begin() as tx:
        if status is FileStatus.SUCCESS:
            return await tx.files.mark_success(batch, outcomes, snapshot_id=1)
        if status is FileStatus.SKIPPED:
            return await tx.files.mark_skipped(batch, outcomes)
        if status is FileStatus.HELD:
            return await tx.files.mark_held(batch, outcomes, {outcome.file_id: CHANGE for outcome in outcomes})
        return await tx.files.mark_failed(batch, outcomes, max_retries=max_retries, retry_base_seconds=retry_base_seconds)


async def _file_in(
    world: World, ingestion: Ingestion, status: FileStatus, *, times: int = 1, max_retries: int = 100, retry_base_seconds: float = 600
) -> ProcessedFile:
    """A new file, brought to the status by the way that leads there; a FAILED one has failed `times` times."""
    object = a_stored_object()
    await world.discover(ingestion, [object])
    if status is not FileStatus.PENDING:
        for turn in range(1, times + 1):
            batch = await world.open_batch(ingestion)
            async with world.begin() as tx:
                if turn > 1:
                    await tx.files.requeue_due_failures(ingestion.id, max_retries=100)
                locked = await tx.files.lock_file_for_processing(batch, object)
            if status is not FileStatus.PROCESSING:
                retries, base = (max_retries, retry_base_seconds) if turn == times else (100, 0)
                await _mark(world, batch, status, [_OUTCOMES[status](locked)], max_retries=retries, retry_base_seconds=base)
    return next(file for file in await world.files(ingestion) if file.path == object.path)


Step = Callable[[UnitOfWork, Batch, int], Awaitable[Sequence[int]]]
_STEPS: Mapping[str, tuple[FileStatus, FileStatus, Step]] = {
    "requeue_due_failures": (
        FileStatus.FAILED,
        FileStatus.PENDING,
        lambda tx, batch, after: tx.files.requeue_due_failures(batch.ingestion_id, max_retries=100, after=after, limit=2),
    ),
    "assign_unloaded": (
        FileStatus.FAILED,
        FileStatus.PENDING,
        lambda tx, batch, after: tx.files.assign_unloaded(batch.ingestion_id, of_run=batch.run_id, to_run=uuid4(), after=after, limit=2),
    ),
    "release_held": (
        FileStatus.HELD,
        FileStatus.PENDING,
        lambda tx, batch, after: tx.files.release_held(batch.ingestion_id, after=after, limit=2),
    ),
    "requeue": (
        FileStatus.FAILED,
        FileStatus.PENDING,
        lambda tx, batch, after: tx.files.requeue(FileSelection(ingestion_id=batch.ingestion_id), after=after, limit=2),
    ),
    "skip": (
        FileStatus.HELD,
        FileStatus.SKIPPED,
        lambda tx, batch, after: tx.files.skip(FileSelection(ingestion_id=batch.ingestion_id), reason="no", after=after, limit=2),
    ),
}


class StepsContract:
    """Of files of which there may be any number, a call changes no more than it is told to."""

    @pytest.mark.parametrize("method", _STEPS)
    async def test_many_files_are_changed_a_few_at_a_time(self, world: World, method: str) -> None:
        before, after, step = _STEPS[method]
        ingestion = await world.ingestion()
        await world.discover(ingestion, 6)
        batch, files = await world.claim(ingestion)
        loaded_file, *others = files
        outcomes = [_OUTCOMES[before](file) for file in others]
        await _mark(world, batch, FileStatus.SUCCESS, [loaded(loaded_file)])
        await _mark(world, batch, before, outcomes, max_retries=100, retry_base_seconds=0)
        ids = [file.id for file in others]
        seen = []
        for expected in (ids[:2], ids[2:4], ids[4:], []):
            async with world.begin() as tx:
                assert await step(tx, batch, seen[-1] if seen else 0) == expected
            seen += expected
            changed = {file.id for file in await world.files(ingestion) if file.status is after}
            assert changed == set(seen)

    @pytest.mark.parametrize("method", _STEPS)
    async def test_a_step_goes_on_after_the_one_before(self, world: World, method: str) -> None:
        before, after, step = _STEPS[method]
        ingestion = await world.ingestion()
        await world.discover(ingestion, 3)
        batch, files = await world.claim(ingestion)
        await _mark(world, batch, before, [_OUTCOMES[before](file) for file in files], max_retries=100, retry_base_seconds=0)
        async with world.begin() as tx:
            assert await step(tx, batch, files[1].id) == [files[2].id]
        assert [file.status for file in await world.files(ingestion)] == [before, before, after]


class ByHandContract:
    """What a person, or a run that retries another, does to files."""

    async def test_a_run_is_assigned_what_another_left_unloaded(self, world: World) -> None:
        ingestion, first, retry = await world.ingestion(), uuid4(), uuid4()
        await world.discover(ingestion, 5)
        batch, again = await world.open_batch(ingestion, run_id=first), await world.open_batch(ingestion, run_id=retry)
        async with world.begin() as tx:
            done, bad, released, _ = await tx.files.claim(batch, max_files=4, max_bytes=10**9)
            await tx.files.mark_success(batch, [loaded(done)], snapshot_id=1)
            await tx.files.mark_failed(batch, [failed(bad)], max_retries=1, retry_base_seconds=60)
            await tx.files.release(batch)
            assert len(await tx.files.assign_unloaded(ingestion.id, of_run=first, to_run=retry)) == 3
            assert await tx.files.count_pending(ingestion.id, at_most=10, assigned_to=retry) == 3
            assert await tx.files.count_pending(ingestion.id, at_most=10) == 4
            taken = await tx.files.claim(again, max_files=10, max_bytes=10**9, assigned_to=retry)
        assert [file.id for file in taken][:2] == [bad.id, released.id]
        assert len(taken) == 3
        assert {file.next_retry_at for file in await world.files(ingestion)} == {None}

    async def test_what_a_run_had_not_come_to_when_it_ended_is_left_too(self, world: World) -> None:
        ingestion, retry = await world.ingestion(), uuid4()
        run = await world.run(ingestion, started=True)
        await world.discover(ingestion, 2)
        (known, _) = await world.files(ingestion)
        async with world.begin() as tx:
            await tx.runs.update_status(run.id, RunStatus.FAILED, at=known.discovered_at - timedelta(seconds=1))
            assert len(await tx.files.assign_unloaded(ingestion.id, of_run=run.id, to_run=retry)) == 0
        other = await world.run(ingestion, started=True)
        async with world.begin() as tx:
            await tx.runs.update_status(other.id, RunStatus.FAILED, at=known.discovered_at + timedelta(days=1))
            assert len(await tx.files.assign_unloaded(ingestion.id, of_run=other.id, to_run=retry)) == 2
            assert await tx.files.count_pending(ingestion.id, at_most=10, assigned_to=retry) == 2

    async def test_files_in_other_hands_are_not_assigned(self, world: World) -> None:
        ingestion, first = await world.ingestion(), uuid4()
        await world.discover(ingestion, 1)
        batch = await world.open_batch(ingestion, run_id=first)
        async with world.begin() as tx:
            await tx.files.claim(batch, max_files=1, max_bytes=10**9)
            assert len(await tx.files.assign_unloaded(ingestion.id, of_run=first, to_run=uuid4())) == 0

    @pytest.mark.parametrize("status", _REACHED)
    async def test_failed_and_skipped_files_are_requeued_and_no_others(self, world: World, status: FileStatus) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, status)
        movable = status in (FileStatus.FAILED, FileStatus.SKIPPED)
        async with world.begin() as tx:
            assert len(await tx.files.requeue(FileSelection(ids=(file.id, 10**12)))) == movable
        (after,) = await world.files(ingestion)
        assert after == (replace(file, status=FileStatus.PENDING, next_retry_at=None) if movable else file)

    @pytest.mark.parametrize("status", _REACHED)
    async def test_pending_held_and_failed_files_are_skipped_and_no_others(self, world: World, status: FileStatus) -> None:
        ingestion = await world.ingestion()
        file = await _file_in(world, ingestion, status)
        movable = status in (FileStatus.PENDING, FileStatus.HELD, FileStatus.FAILED)
        async with world.begin() as tx:
            assert len(await tx.files.skip(FileSelection(ids=(file.id,)), reason="not ours")) == movable
        (after,) = await world.files(ingestion)
        if movable:
            assert (after.status, after.error_message, after.next_retry_at) == (FileStatus.SKIPPED, "not ours", None)
            assert after.processed_at is not None
        else:
            assert after == file

    async def test_a_selection_by_filter_takes_the_ingestions_files_that_pass(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        await world.discover(ingestion, [a_stored_object("a/1"), a_stored_object("a/2"), a_stored_object("b/1")])
        await world.discover(other, [a_stored_object("a/1")])
        filter = ProcessedFileFilter(path_prefix=BUCKET + "a/")
        async with world.begin() as tx:
            assert len(await tx.files.skip(FileSelection(ingestion_id=ingestion.id, filter=filter), reason="no")) == 2
        assert [file.status for file in await world.files(ingestion)] == [FileStatus.SKIPPED, FileStatus.SKIPPED, FileStatus.PENDING]
        assert [file.status for file in await world.files(other)] == [FileStatus.PENDING]
