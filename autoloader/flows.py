"""The flow that executes a run, and its tasks: one around each stage of the pipeline, and nothing of their own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from autoloader.flow_services import FlowServices, flow_services, open_flow_services
from domain.errors import NotFoundError
from domain.ingestions.entities import Ingestion
from domain.ports.object_store import SourceUnavailableError
from domain.ports.unit_of_work import Subject
from domain.runs.entities import Run, RunMetrics
from domain.runs.pipeline import FileState, RunPipeline
from domain.tenants import Grants
from integrations.prefect.deployments import FLOW_NAME
from integrations.prefect.run_log import lines_of
from integrations.prefect.states import state_of
from integrations.prefect.stopping import stoppable

# isort: split
# Behind our own package, which says what Prefect is to leave alone when it is imported.
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.context import FlowRunContext
from prefect.states import AwaitingConcurrencySlot, Completed
from prefect.tasks import Task

ENTRYPOINT = "autoloader.flows.run_ingestion_flow"
"""By which any of Prefect's workers finds the flow, where this package is installed."""

_ROOM_IS_LOOKED_FOR_EVERY = timedelta(seconds=5)
"""The worker's slot is free for other flow runs meanwhile."""

PASSED_OVER = "PASSED_OVER"
"""The name of the state of a flow run that had nothing to execute."""


def _pipeline() -> RunPipeline:
    services = open_flow_services()
    if services is None:
        raise RuntimeError("a task outside run_ingestion_flow has nothing to work with")
    return services.pipeline


@contextlib.asynccontextmanager
async def _services() -> AsyncIterator[FlowServices]:
    """This process's, or else ones of the flow run's own, by the environment: as under a worker that starts a process for each."""
    if (services := open_flow_services()) is not None:
        yield services
        return
    from autoloader.application import open_application
    from autoloader.settings import Settings
    from autoloader.stack import database

    settings = Settings()
    async with database(settings) as url, open_application(settings, url) as application:
        with flow_services(application.flow_services):
            yield application.flow_services


def _may_pass(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether it helps to list again: not when the credential, the grant or the path is wrong."""
    return isinstance(state.data, SourceUnavailableError) and state.data.reason == SourceUnavailableError.UNREACHABLE


@task(name="create-run-record", cache_policy=NO_CACHE, persist_result=False)
async def create_run_record_task(run: Subject) -> tuple[Run, Ingestion, Grants]:
    """The run, RUNNING from now on, and what it needs. Raises `ConflictError` when it is not QUEUED (any more)."""
    return await _pipeline().start(run)


@task(
    name="discover-files",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=[1, 4, 15],
    retry_condition_fn=_may_pass,
)
async def discover_files_task(run: Run, ingestion: Ingestion, grants: Grants) -> Sequence[str]:
    """List the source into the ledger; the first paths that were listed. Tried again while the store does not answer."""
    return await _pipeline().discover(run, ingestion, grants)


@task(name="check-file-state", cache_policy=NO_CACHE, persist_result=False)
async def check_file_state_task(run: Run, ingestion: Ingestion, paths: Sequence[str]) -> FileState:
    """How many files wait, and which of the given paths are done already."""
    return await _pipeline().check(run, ingestion, paths)


@task(name="process-files", cache_policy=NO_CACHE, persist_result=False)
async def process_files_task(run: Run, ingestion: Ingestion, grants: Grants) -> RunMetrics:
    """Load what waits, batch by batch."""
    return await _pipeline().process(run, ingestion, grants)


@task(name="complete-run-record", cache_policy=NO_CACHE, persist_result=False)
async def complete_run_record_task(run: Run) -> Run:
    """End the run by what it has counted."""
    return await _pipeline().complete(run)


@task(name="fail-run-record", cache_policy=NO_CACHE, persist_result=False)
async def fail_run_record_task(run: Run, message: str) -> Run | None:
    """End the run FAILED, with the reason."""
    return await _pipeline().fail(run, message)


class _Tasks:
    """The stages of the pipeline, each inside its task."""

    def __init__(self) -> None:
        self.nothing_new = "nothing waited"

    async def start(self, subject: Subject) -> tuple[Run, Ingestion, Grants]:
        return await create_run_record_task(subject)

    async def discover(self, run: Run, ingestion: Ingestion, grants: Grants) -> Sequence[str]:
        return await discover_files_task(run, ingestion, grants)

    async def check(self, run: Run, ingestion: Ingestion, paths: Sequence[str]) -> FileState:
        state = await check_file_state_task(run, ingestion, paths)
        self.nothing_new = f"nothing waited; of the first {len(paths)} files that were listed, {len(state.done)} are done already"
        return state

    async def process(self, run: Run, ingestion: Ingestion, grants: Grants) -> RunMetrics:
        return await process_files_task(run, ingestion, grants)

    async def complete(self, run: Run) -> Run:
        return await complete_run_record_task(run)

    async def fail(self, run: Run, message: str) -> Run | None:
        return await fail_run_record_task(run, message)


# No result is kept anywhere. But unless told where, the engine asks the server for each flow run, and blocks the event loop for it.
@flow(name=FLOW_NAME, persist_result=False, result_storage=Path(tempfile.gettempdir()))
async def run_ingestion_flow(tenant_id: UUID, ingestion_id: UUID, run_id: UUID | None = None) -> State[Any]:
    """Execute a run: the one with that id, or one of this flow run's own, when it was begun by a schedule or by hand in Prefect.

    The flow run ends as the run does: Completed (by the name PARTIAL or NO_NEW_FILES where that says more), Failed or Cancelled.
    """
    flow_run = _flow_run()
    with lines_of(flow_run.id):
        return await _execute(flow_run, Subject(tenant_id, ingestion_id), run_id)


async def _execute(flow_run: FlowRun, ingestion: Subject, run_id: UUID | None) -> State[Any]:
    async with _services() as services:
        run = await _run(services, flow_run, ingestion, run_id)
        if run is None:
            return Completed(name=PASSED_OVER, message="there is nothing to run; the worker's log says why", data=PASSED_OVER)
        subject = Subject(run.tenant_id, run.id)
        if not await services.queue.admit(subject):
            return AwaitingConcurrencySlot(scheduled_time=datetime.now(UTC) + _ROOM_IS_LOOKED_FOR_EVERY)
        stages = _Tasks()
        await stoppable(services.pipeline.execute(subject, stages), lambda: services.runs.cancel_in_orchestrator(subject))
        async with services.unit_of_work(run.tenant_id) as tx:
            ended = await tx.runs.get_by_id(run.id)
        if ended is None:
            raise NotFoundError("run")
        return state_of(ended, nothing_new=stages.nothing_new)


def _flow_run() -> FlowRun:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("a flow without a flow run")
    return context.flow_run


async def _run(services: FlowServices, flow_run: FlowRun, ingestion: Subject, run_id: UUID | None) -> Run | None:
    due_at: datetime | None = None
    if flow_run.auto_scheduled and flow_run.expected_start_time is not None:
        # Prefect's moments are of a class of their own, which reckons otherwise.
        due_at = datetime.fromtimestamp(flow_run.expected_start_time.timestamp(), UTC)
    return await services.runs.run_for_orchestrator(ingestion, str(flow_run.id), run_id=run_id, due_at=due_at)
