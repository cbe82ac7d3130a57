"""What Prefect holds against what is stored, all of it: other hands change things there, workers die, and servers lose their memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Crashed

from domain.clock import Clock
from domain.errors import UnavailableError
from domain.ports.unit_of_work import Directory, Subject, UnitOfWorkFactory
from domain.runs.entities import Run
from domain.states import ACTIVE_RUN
from integrations.prefect.deployments import FLOW_NAME, Deployment, ingestion_of
from integrations.prefect.states import BEGUN_WITHIN_SECONDS, is_stuck, state_of

if TYPE_CHECKING:
    from integrations.prefect.service import PrefectService

log = logging.getLogger(__name__)

_PAGE = 200
_RUNS_AT_ONCE = 500
_BEGUN_AT_MOST = 10_000
"""Flow runs, those that should have started first: what is left of them by their workers is the oldest."""
_BEGUN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]

T = TypeVar("T")


class Mending:
    """Looks at everything, and hands what differs to the service, which reads both sides again before it acts."""

    def __init__(
        self, service: PrefectService, directory: Directory, unit_of_work: UnitOfWorkFactory, clock: Clock, *, work_pool: str
    ) -> None:
        self._service = service
        self._directory = directory
        self._unit_of_work = unit_of_work
        self._clock = clock
        self._pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[work_pool]))
        self._flow = FlowFilter(name=FlowFilterName(any_=[FLOW_NAME]))

    async def mend(self) -> None:
        """Raises `UnavailableError`. Anything else that goes wrong is about one thing, and the others have their turn."""
        async with self._service.prepared():
            pass
        await self._deployments()
        for subject in await self._directory.waiting_runs(_RUNS_AT_ONCE, queued_for_seconds=BEGUN_WITHIN_SECONDS):
            await self._try(f"run {subject.id}", self._service.reconcile_run(subject))
        async for flow_run in self._begun_flow_runs():
            await self._try(f"flow run {flow_run.id}", self._flow_run(flow_run))

    async def _deployments(self) -> None:
        present = {response.name: response async for response in self._present_deployments()}
        after: UUID | None = None
        while page := await self._directory.ingestions(_PAGE, after=after):
            for ingestion in page:
                response = present.pop(str(ingestion.id), None)
                found = response and Deployment.found(response)
                if response is None or found != Deployment.of(ingestion) or self._service.differs(response, ingestion):
                    subject = Subject(ingestion.tenant_id, ingestion.id)
                    await self._try(f"the deployment of ingestion {ingestion.id}", self._service.reconcile_ingestion(subject))
            after = page[-1].id
        for response in present.values():
            orphan = ingestion_of(response)
            # One of another installation's, which shares the server, is not ours to remove.
            if orphan is not None and await self._directory.tenant(orphan.tenant_id) is not None:
                await self._try(f"the deployment of ingestion {response.name}", self._service.reconcile_ingestion(orphan))

    async def _flow_run(self, flow_run: FlowRun) -> None:
        """End one whose run has ended without it, or whose worker has died before there was a run."""
        state, run = flow_run.state, await self._run_of(flow_run)
        if state is None or not (is_stuck(state, self._clock.now()) or state.is_cancelling()):
            return
        if run is None:
            log.warning("flow run %s was left by its worker", flow_run.id)
            await self._service.end_flow_run(flow_run.id, Crashed(message="its worker is gone"))
        elif run.status not in ACTIVE_RUN:
            await self._service.end_flow_run(flow_run.id, state_of(run))

    async def _run_of(self, flow_run: FlowRun) -> Run | None:
        async with self._unit_of_work(UUID(flow_run.parameters["tenant_id"])) as tx:
            given = flow_run.parameters.get("run_id")
            return await (tx.runs.get_by_id(UUID(given)) if given else tx.runs.get_by_flow_run(str(flow_run.id)))

    async def _present_deployments(self) -> AsyncIterator[DeploymentResponse]:
        offset = 0
        while True:
            async with self._service.reached() as client:
                page = await client.read_deployments(flow_filter=self._flow, work_pool_filter=self._pool, limit=_PAGE, offset=offset)
            for response in page:
                yield response
            if len(page) < _PAGE:
                return
            offset += _PAGE

    async def _begun_flow_runs(self) -> AsyncIterator[FlowRun]:
        """All are read before the first is given: ending one moves those behind it to the fore, and a page would miss as many."""
        begun = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_BEGUN)))
        found: list[FlowRun] = []
        while len(found) % _PAGE == 0 and len(found) < _BEGUN_AT_MOST:
            async with self._service.reached() as client:
                page = await client.read_flow_runs(
                    flow_filter=self._flow,
                    work_pool_filter=self._pool,
                    flow_run_filter=begun,
                    sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                    limit=_PAGE,
                    offset=len(found),
                )
            if not page:
                break
            found += page
        for flow_run in found:
            yield flow_run

    async def _try(self, what: str, act: Awaitable[T]) -> None:
        try:
            await act
        except UnavailableError:
            raise
        except Exception:
            log.exception("%s could not be mended", what)
