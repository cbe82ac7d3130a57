"""`run_ingestion_flow` and its tasks, by Prefect's own engine, over a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID, uuid4

import pytest
from botocore.exceptions import ClientError
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun

from autoloader.flow_services import flow_services
from autoloader.flows import (
    check_file_state_task,
    complete_run_record_task,
    create_run_record_task,
    discover_files_task,
    fail_run_record_task,
    process_files_task,
    run_ingestion_flow,
)
from domain.errors import ConflictError
from domain.ingestions.entities import Ingestion, IngestionStatus, Policies, Source
from domain.ledger.entities import FileStatus
from domain.ports.engine import LoadBatch
from domain.ports.object_store import SourceUnavailableError
from domain.ports.unit_of_work import Subject
from domain.runs.entities import Run, RunMetrics, RunStatus, RunTrigger
from domain.runs.pipeline import FileState
from domain.tenants import Grants
from integrations.object_store.s3_errors import S3Names, source_unavailable
from tests.factories import BUCKET
from tests.fakes.object_store import FakeObjectStore, FakeObjectStores
from tests.fakes.scripted_engine import ROWS
from tests.fixtures.prefect_server import Prefect, flow_services_of
from tests.workbench import Workbench

TASKS = ["create-run-record", "discover-files", "check-file-state", "process-files", "complete-run-record"]


class FlakyStores(FakeObjectStores):
    """Listings fail with these, one each, and then work."""

    failures: list[SourceUnavailableError]

    def open(self, source: Source, grants: Grants) -> FakeObjectStore:
        self.listing_failure = (0, self.failures.pop(0)) if self.failures else None
        return super().open(source, grants)


@pytest.fixture(autouse=True)
def in_prefect(prefect: Prefect, bench: Workbench) -> Iterator[None]:
    with prefect.connection.settings(), flow_services(flow_services_of(bench)):
        yield


async def flow(ingestion: Ingestion, run_id: UUID | None = None) -> State[str]:
    """The state in which the flow run ends."""
    return await run_ingestion_flow(ingestion.tenant_id, ingestion.id, run_id, return_state=True)


async def runs_of(bench: Workbench, ingestion: Ingestion) -> Sequence[Run]:
    async with bench.unit_of_work(ingestion.tenant_id) as tx:
        return await tx.runs.get_runs_by_ingestion(ingestion.id, limit=10)


async def task_runs_of(prefect: Prefect, run: Run) -> Mapping[str, TaskRun]:
    """By the task's name, in the order in which they began; Prefect learns of them by events, a moment later."""
    async with asyncio.timeout(30):
        while True:
            flow_run = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(str(run.flow_run_id))]))
            found = await prefect.client.read_task_runs(flow_run_filter=flow_run)
            if found and all(task_run.state and task_run.state.is_final() for task_run in found):
                found.sort(key=lambda task_run: task_run.start_time)
                names = {task_run.name.rpartition("-")[0]: task_run for task_run in found}
                if "complete-run-record" in names or "fail-run-record" in names:
                    return names
            await asyncio.sleep(0.1)


async def begun(bench: Workbench, **fields: object) -> tuple[Run, Ingestion, Grants]:
    """A run that has started, with what its tasks are given."""
    return await bench.pipeline.start(await bench.queue(await bench.ingestion(**fields)))


class TestFlow:
    @pytest.mark.scenario(101, 120)
    async def test_it_takes_a_queued_run_from_discovery_to_completion(self, prefect: Prefect, bench: Workbench) -> None:
        paths = bench.land("a", "b", "c", "d")
        bench.engine.bad[paths[3]] = "HTML, not JSON"
        ingestion = await bench.ingestion()
        subject = await bench.queue(ingestion)
        state = await flow(ingestion, subject.id)
        run = await bench.run(subject)
        assert (run.status, run.trigger, run.files_total) == (RunStatus.PARTIAL, RunTrigger.MANUAL, 4)
        assert run.metrics == RunMetrics(files_discovered=4, files_processed=3, files_failed=1, rows_written=3 * ROWS, bytes_processed=6)
        assert await bench.statuses(ingestion) == dict.fromkeys("abc", FileStatus.SUCCESS) | {"d": FileStatus.FAILED}
        assert [bench.table(ingestion).loads_of(path) for path in paths] == [1, 1, 1, 0]
        assert (state.type.value, state.name, state.message) == ("COMPLETED", "PARTIAL", "1 of 4 files failed; each file says why")
        assert run.flow_run_id == str(state.state_details.flow_run_id)
        task_runs = await task_runs_of(prefect, run)
        assert list(task_runs) == TASKS
        assert all(task_run.state.is_completed() for task_run in task_runs.values())

    @pytest.mark.scenario(102)
    async def test_nothing_new_is_no_new_files_and_loads_nothing(self, prefect: Prefect, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        assert (await flow(ingestion)).name == "NO_NEW_FILES"
        bench.land("a", "b")
        assert (await flow(ingestion)).name == "Completed"
        state = await flow(ingestion)
        assert (state.type.value, state.name, await state.result()) == ("COMPLETED", "NO_NEW_FILES", "NO_NEW_FILES")
        assert state.message == "nothing waited; of the first 2 files that were listed, 2 are done already"
        runs = await runs_of(bench, ingestion)
        assert sorted(run.status for run in runs) == [RunStatus.NO_NEW_FILES, RunStatus.NO_NEW_FILES, RunStatus.SUCCESS]
        assert {run.trigger for run in runs} == {RunTrigger.MANUAL}
        last = next(run for run in runs if run.flow_run_id == str(state.state_details.flow_run_id))
        assert list(await task_runs_of(prefect, last)) == [name for name in TASKS if name != "process-files"]
        assert len(bench.engine.loads) == 1

    @pytest.mark.scenario(103)
    async def test_an_error_is_told_by_fail_run_record_task(self, prefect: Prefect, bench: Workbench) -> None:
        bench.land("a")

        async def fail(_: LoadBatch) -> None:
            raise RuntimeError("the engine is out of memory")

        bench.engine.at_start = fail
        ingestion = await bench.ingestion()
        state = await flow(ingestion)
        (run,) = await runs_of(bench, ingestion)
        assert (run.status, run.error_message) == (RunStatus.FAILED, f"internal error; the log tells more under run {run.id}")
        assert (state.type.value, state.message) == ("FAILED", run.error_message)
        task_runs = await task_runs_of(prefect, run)
        assert list(task_runs) == [*TASKS[:4], "fail-run-record"]
        assert task_runs["process-files"].state.is_failed()
        assert await bench.statuses(ingestion) == {"a": FileStatus.FAILED}

    async def test_a_run_that_is_not_queued_any_more_is_passed_over(self, bench: Workbench) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        ended = await bench.queue(ingestion, status=RunStatus.CANCELLED)
        for run_id in (ended.id, uuid4()):
            assert (await flow(ingestion, run_id)).name == "PASSED_OVER"
        assert await bench.files(ingestion) == []

    async def test_a_run_of_another_ingestion_or_tenant_is_passed_over(self, bench: Workbench) -> None:
        ingestion, other = await bench.ingestion(), await bench.ingestion()
        run = await bench.queue(other)
        assert (await flow(ingestion, run.id)).name == "PASSED_OVER"
        state = await run_ingestion_flow(uuid4(), other.id, run.id, return_state=True)
        assert state.name == "PASSED_OVER"
        assert (await bench.run(run)).status is RunStatus.QUEUED

    async def test_a_paused_ingestion_is_not_run(self, bench: Workbench) -> None:
        bench.land("a")
        ingestion = await bench.ingestion(status=IngestionStatus.PAUSED)
        assert (await flow(ingestion)).name == "PASSED_OVER"
        assert await runs_of(bench, ingestion) == []

    @pytest.mark.scenario(108)
    async def test_process_files_task_ends_at_the_runs_time_limit(self, prefect: Prefect, bench: Workbench) -> None:
        bench.land("a")

        async def never(_: LoadBatch) -> None:
            await asyncio.Event().wait()

        bench.engine.at_start = never
        ingestion = await bench.ingestion(policies=Policies(timeout_seconds=1))
        state = await flow(ingestion)
        (run,) = await runs_of(bench, ingestion)
        assert (run.status, run.error_message) == (RunStatus.FAILED, "the run took longer than its limit of 1 seconds")
        assert (state.type.value, state.message) == ("FAILED", run.error_message)
        task_runs = await task_runs_of(prefect, run)
        assert task_runs["process-files"].state.is_crashed()
        assert task_runs["fail-run-record"].state.is_completed()
        # What was in hand is settled: it waits for the next run.
        assert await bench.statuses(ingestion) == {"a": FileStatus.PENDING}


class TestTasks:
    @pytest.mark.scenario(104)
    async def test_discover_files_task_enters_what_lies_at_the_source(self, bench: Workbench) -> None:
        paths = bench.land("a", "b")
        run, ingestion, grants = await begun(bench)
        assert list(await discover_files_task(run, ingestion, grants)) == paths
        assert await bench.statuses(ingestion) == dict.fromkeys("ab", FileStatus.PENDING)
        assert (await bench.run(Subject(run.tenant_id, run.id))).files_discovered == 2

    @pytest.mark.scenario(105)
    async def test_discover_files_task_lists_again_when_s3_has_failed(self, bench: Workbench) -> None:
        names = S3Names("bucket", "prefix", "default")
        slow_down = ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "ListObjectsV2")
        bench.stores = FlakyStores()
        bench.stores.failures = [source_unavailable(slow_down, names)] * 2
        with flow_services(flow_services_of(bench)):
            paths = bench.land("a")
            run, ingestion, grants = await begun(bench)
            impatient = discover_files_task.with_options(retry_delay_seconds=0)
            assert list(await impatient(run, ingestion, grants)) == paths
        assert bench.stores.failures == []

    @pytest.mark.parametrize("failures", [1, 4])
    async def test_it_gives_up_when_that_does_not_help(self, bench: Workbench, failures: int) -> None:
        denied = SourceUnavailableError(SourceUnavailableError.ACCESS_DENIED, "the bucket may not be listed")
        away = SourceUnavailableError(SourceUnavailableError.UNREACHABLE, "the store does not answer")
        bench.stores = FlakyStores()
        bench.stores.failures = [denied if failures == 1 else away] * 6
        with flow_services(flow_services_of(bench)):
            bench.land("a")
            run, ingestion, grants = await begun(bench)
            with pytest.raises(SourceUnavailableError):
                await discover_files_task.with_options(retry_delay_seconds=0)(run, ingestion, grants)
        assert len(bench.stores.failures) == 6 - failures

    @pytest.mark.scenario(106)
    async def test_check_file_state_task_says_which_of_the_paths_are_done(self, bench: Workbench) -> None:
        done, bad = bench.land("done", "bad")
        bench.engine.bad[bad] = "truncated"
        ingestion = await bench.ingestion()
        await bench.execute(ingestion)
        waiting, _ = bench.land("waiting", "unlisted")
        bench.stores.delete(BUCKET + "unlisted")
        run, ingestion, grants = await bench.pipeline.start(await bench.queue(ingestion))
        await bench.pipeline.discover(run, ingestion, grants)
        state = await check_file_state_task(run, ingestion, [done, bad, waiting, BUCKET + "unlisted"])
        assert state == FileState(waiting=1, done=frozenset({done}))

    @pytest.mark.scenario(107)
    async def test_process_files_task_loads_what_waits(self, bench: Workbench) -> None:
        paths = bench.land("a", "b", "c", "d")
        run, ingestion, grants = await begun(bench)
        await bench.pipeline.discover(run, ingestion, grants)
        metrics = await process_files_task(run, ingestion, grants)
        assert metrics == RunMetrics(files_processed=4, rows_written=4 * ROWS, bytes_processed=8)
        assert await bench.statuses(ingestion) == dict.fromkeys("abcd", FileStatus.SUCCESS)
        assert [bench.table(ingestion).loads_of(path) for path in paths] == [1, 1, 1, 1]
        assert len(bench.engine.loads) == 2

    @pytest.mark.scenario(109)
    async def test_create_run_record_task_has_the_run_running_under_a_lease(self, bench: Workbench) -> None:
        subject = await bench.queue(await bench.ingestion())
        run, ingestion, grants = await create_run_record_task(subject)
        assert run == await bench.run(subject)
        assert (run.status, run.ingestion_id, grants) == (RunStatus.RUNNING, ingestion.id, bench.tenant.grants)
        assert run.lease_expires_at is not None
        with pytest.raises(ConflictError):
            await create_run_record_task(subject)

    @pytest.mark.scenario(110)
    async def test_complete_run_record_task_ends_the_run_with_its_counts(self, bench: Workbench) -> None:
        bench.land("a")
        run, ingestion, grants = await begun(bench)
        await bench.pipeline.discover(run, ingestion, grants)
        await bench.pipeline.process(run, ingestion, grants)
        ended = await complete_run_record_task(run)
        assert (ended.status, ended.rows_written, ended.files_processed, ended.error_message) == (RunStatus.SUCCESS, ROWS, 1, None)
        assert ended == await bench.run(Subject(run.tenant_id, run.id))

    @pytest.mark.scenario(111)
    async def test_fail_run_record_task_ends_the_run_with_the_reason(self, bench: Workbench) -> None:
        run, _, _ = await begun(bench)
        ended = await fail_run_record_task(run, "the disk is full")
        assert ended == await bench.run(Subject(run.tenant_id, run.id))
        assert (ended.status, ended.error_message, ended.lease_expires_at) == (RunStatus.FAILED, "the disk is full", None)
        assert await fail_run_record_task(run, "again") is None
