"""What a `ProcessedFileRepository` promises of paths whose content changes once it is loaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from domain.ingestions.entities import ChangedFilePolicy, Ingestion, Reset
from domain.ledger.entities import Batch, FileStatus, ProcessedFile
from domain.ports.object_store import StoredObject
from domain.ports.repositories import Discovered, FileSelection
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_stored_object, failed, loaded, skipped

IGNORE, APPEND, REPLACE = ChangedFilePolicy
PENDING, SUCCESS, SUPERSEDED = FileStatus.PENDING, FileStatus.SUCCESS, FileStatus.SUPERSEDED


def version(etag: str, name: str = "a.json") -> StoredObject:
    return a_stored_object(name, etag=etag, size_bytes=int(etag[1:]) * 10, modified_at=NOW + timedelta(hours=int(etag[1:])))


async def found(world: World, ingestion: Ingestion, object: StoredObject, policy: ChangedFilePolicy) -> Discovered:
    async with world.begin() as tx:
        answer: Discovered = await tx.files.record_discovered(ingestion.id, [object], changed_files=policy)
        return answer


async def load(world: World, ingestion: Ingestion, *, rows: int = 10) -> tuple[Batch, ProcessedFile]:
    """What waits, marked as loaded; what it replaces is superseded, as the batch processor does."""
    batch, [file] = await world.claim(ingestion)
    async with world.begin() as tx:
        await tx.files.mark_success(batch, [loaded(file, rows=rows)], snapshot_id=1)
        if file.replaces:
            await tx.files.supersede(batch, [file.id])
    return batch, file


async def versions(world: World, ingestion: Ingestion) -> list[tuple[str, FileStatus, bool]]:
    """Etag, status and whether it is current, the newest first."""
    (current,) = await world.files(ingestion)
    async with world.begin() as tx:
        earlier = await tx.files.get_earlier_versions(ingestion.id, current.path, limit=10)
    return [(file.etag, file.status, file.current) for file in [current, *earlier]]


class VersionContract:
    async def test_a_loaded_file_that_changes_has_a_new_version_unless_changes_are_ignored(self, world: World) -> None:
        for policy in ChangedFilePolicy:
            ingestion = await world.ingestion()
            assert await found(world, ingestion, version("v1"), policy) == Discovered(new=1)
            _, first = await load(world, ingestion)
            before = await world.files(ingestion)
            changed = await found(world, ingestion, version("v2"), policy)
            if policy is IGNORE:
                assert changed == Discovered()
                assert await world.files(ingestion) == before
                continue
            assert changed == Discovered(changed=1)
            (second,) = await world.files(ingestion)
            assert (second.stored_object, second.status, second.current) == (version("v2"), PENDING, True)
            assert (second.id > first.id, second.replaces, second.rows) == (True, policy is REPLACE, None)
            assert await versions(world, ingestion) == [("v2", PENDING, True), ("v1", SUCCESS, False)]
            assert await found(world, ingestion, version("v2"), policy) == Discovered()

    async def test_what_changed_under_ignore_is_found_once_the_policy_is_another(self, world: World) -> None:
        ingestion = await world.ingestion()
        await found(world, ingestion, version("v1"), IGNORE)
        await load(world, ingestion)
        assert await found(world, ingestion, version("v2"), IGNORE) == Discovered()
        assert await found(world, ingestion, version("v2"), REPLACE) == Discovered(changed=1)

    @pytest.mark.parametrize("status", [PENDING, FileStatus.FAILED, FileStatus.SKIPPED])
    async def test_of_changes_before_a_load_only_the_newest_is_a_version(self, world: World, status: FileStatus) -> None:
        ingestion = await world.ingestion()
        await found(world, ingestion, version("v1"), REPLACE)
        await load(world, ingestion)
        await found(world, ingestion, version("v2"), REPLACE)
        if status is not PENDING:
            batch, [file] = await world.claim(ingestion)
            async with world.begin() as tx:
                await tx.files.mark_failed(
                    batch, [failed(file)] if status is FileStatus.FAILED else [], max_retries=3, retry_base_seconds=1
                )
                await tx.files.mark_skipped(batch, [skipped(file)] if status is FileStatus.SKIPPED else [])
        assert await found(world, ingestion, version("v3"), REPLACE) == Discovered(changed=1)
        assert await versions(world, ingestion) == [("v3", PENDING, True), ("v1", SUCCESS, False)]

    @pytest.mark.parametrize(("then", "replaces"), [(IGNORE, True), (APPEND, False), (REPLACE, True)])
    async def test_an_unloaded_version_goes_by_the_policy_under_which_it_was_found_last(
        self, world: World, then: ChangedFilePolicy, replaces: bool
    ) -> None:
        ingestion = await world.ingestion()
        await found(world, ingestion, version("v1"), REPLACE)
        await load(world, ingestion)
        await found(world, ingestion, version("v2"), REPLACE)
        assert await found(world, ingestion, version("v3"), then) == Discovered(changed=1)
        assert [(file.etag, file.replaces) for file in await world.files(ingestion)] == [("v3", replaces)]

    async def test_a_file_in_work_stays_as_it_is(self, world: World) -> None:
        ingestion = await world.ingestion()
        await found(world, ingestion, version("v1"), REPLACE)
        await load(world, ingestion)
        await found(world, ingestion, version("v2"), REPLACE)
        await world.claim(ingestion)
        assert await found(world, ingestion, version("v3"), REPLACE) == Discovered()
        assert await versions(world, ingestion) == [("v2", FileStatus.PROCESSING, True), ("v1", SUCCESS, False)]

    async def test_a_replacing_version_names_the_batches_whose_rows_go_and_supersedes_their_versions(self, world: World) -> None:
        ingestion = await world.ingestion()
        brought = []
        for etag, rows in (("v1", 10), ("v2", 4), ("v3", 0)):
            await found(world, ingestion, version(etag), APPEND)
            brought.append((await load(world, ingestion, rows=rows))[0].id)
        await world.discover(ingestion, [version("v1", "other.json")])
        await found(world, ingestion, version("v4"), REPLACE)
        batch, files = await world.claim(ingestion)
        path = version("v4").path
        async with world.begin() as tx:
            assert await tx.files.rows_of_earlier_versions(ingestion.id, [path, version("v1", "other.json").path, "s3://x"]) == {path: 14}
            assert await tx.files.get_replaced(batch) == {path: frozenset(brought[:2])}
            assert await tx.files.get_replaced(replace(batch, id=uuid4())) == {}
            mine = next(file.id for file in files if file.path == path)
            await tx.files.mark_success(batch, [loaded(mine)], snapshot_id=1)
            assert await tx.files.supersede(batch, [file.id for file in files]) == 3
            assert await tx.files.supersede(batch, [file.id for file in files]) == 0
            assert await tx.files.rows_of_earlier_versions(ingestion.id, [path]) == {}
            newest, *_ = await tx.files.get_earlier_versions(ingestion.id, path, limit=1)
        assert (newest.etag, newest.status, newest.rows) == ("v3", SUPERSEDED, 0)

    async def test_an_appending_version_replaces_nothing(self, world: World) -> None:
        ingestion = await world.ingestion()
        await found(world, ingestion, version("v1"), APPEND)
        await load(world, ingestion)
        await found(world, ingestion, version("v2"), APPEND)
        batch, _ = await world.claim(ingestion)
        async with world.begin() as tx:
            assert await tx.files.get_replaced(batch) == {}

    async def test_rows_of_an_earlier_generation_are_not_in_the_table(self, world: World) -> None:
        ingestion = await world.ingestion()
        await found(world, ingestion, version("v1"), REPLACE)
        await load(world, ingestion)
        await found(world, ingestion, version("v2"), REPLACE)
        async with world.begin() as tx:
            await tx.ingestions.begin_reset(ingestion.id, Reset(uuid4()), generation=2, checkpoint_path="anew")
        batch, [file] = await world.claim(ingestion)
        async with world.begin() as tx:
            assert await tx.files.get_replaced(batch) == {}
            assert await tx.files.rows_of_earlier_versions(ingestion.id, [file.path]) == {}
            assert await tx.files.supersede(batch, [file.id]) == 1

    async def test_what_people_do_to_files_they_do_to_current_versions(self, world: World) -> None:
        ingestion = await world.ingestion()
        await found(world, ingestion, version("v1"), REPLACE)
        _, first = await load(world, ingestion)
        await found(world, ingestion, version("v2"), REPLACE)
        async with world.begin() as tx:
            assert len(await tx.files.requeue(FileSelection(ids=(first.id,)))) == 0
            assert len(await tx.files.skip(FileSelection(ids=(first.id,)), reason="no")) == 0
            assert len(await tx.files.skip(FileSelection(ingestion_id=ingestion.id), reason="no")) == 1
            assert await tx.files.count_by_status(ingestion.id) == {FileStatus.SKIPPED: 1}
            assert await tx.files.get_processed_file_paths(ingestion.id, [first.path]) == {first.path}
        assert await versions(world, ingestion) == [("v2", FileStatus.SKIPPED, True), ("v1", SUCCESS, False)]

    async def test_a_path_is_forgotten_with_all_its_versions(self, world: World) -> None:
        ingestion = await world.ingestion()
        await found(world, ingestion, version("v1"), REPLACE)
        _, first = await load(world, ingestion)
        await found(world, ingestion, version("v2"), REPLACE)
        async with world.begin() as tx:
            assert await tx.files.delete_by_ingestion(ingestion.id, path_prefix=first.path) == 2
            assert await tx.files.get_earlier_versions(ingestion.id, first.path, limit=10) == []
        assert await world.files(ingestion) == []

    async def test_versions_are_counted_apart(self, world: World) -> None:
        ingestion = await world.ingestion()
        for etag in ("v1", "v2"):
            await found(world, ingestion, version(etag), APPEND)
            await load(world, ingestion, rows=int(etag[1:]))
        (stats,) = await world.reader.stats([ingestion.id])
        assert (stats.files, stats.earlier_versions, stats.of_status(SUCCESS).files) == (1, 1, 1)
        assert (stats.rows_loaded, stats.bytes_loaded, stats.size_bytes) == (3, 30, 20)
        await found(world, ingestion, version("v3"), REPLACE)
        (stats,) = await world.reader.stats([ingestion.id])
        assert (stats.files, stats.earlier_versions, stats.of_status(SUCCESS).files, stats.backlog.files) == (1, 2, 0, 1)
        assert (stats.rows_loaded, stats.size_bytes) == (3, 30)
        await load(world, ingestion, rows=7)
        await world.directory.compact_file_counts(100)
        (stats,) = await world.reader.stats([ingestion.id])
        assert (stats.files, stats.earlier_versions, stats.of_status(SUPERSEDED).files, stats.rows_loaded) == (1, 0, 2, 7)
        async with world.begin() as tx:
            await tx.ingestions.begin_reset(ingestion.id, Reset(uuid4()), generation=2, checkpoint_path="anew")
        await found(world, ingestion, version("v4"), APPEND)
        (stats,) = await world.reader.stats([ingestion.id])
        assert (stats.files, stats.files_absent_by_refresh, stats.earlier_versions, stats.rows_loaded) == (1, 0, 0, 0)
