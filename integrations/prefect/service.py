"""The orchestrator outside this process: a deployment for each ingestion, a flow run for each run.

Every call reads what is stored and asks what Prefect holds, so it may come again at any time. What it makes is named by our
ids: a deployment by its ingestion's, a flow run by its run's, as idempotency key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentScheduleUpdate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.states import Cancelling, Crashed

from domain.clock import Clock
from domain.errors import UnavailableError
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ports.unit_of_work import Directory, Subject, UnitOfWorkFactory
from domain.runs.entities import Run, RunStatus
from integrations.prefect.connection import PrefectConnection, errors_named
from integrations.prefect.deployments import FLOW_NAME, QUEUES, Deployment
from integrations.prefect.mending import Mending
from integrations.prefect.states import is_stuck, state_of
from integrations.prefect.worker import WarmWorker

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 20.0


class Cancels(Protocol):
    async def cancel_in_orchestrator(self, subject: Subject) -> object:
        """Cancel a run because somebody has asked the orchestrator to."""
        ...


class PrefectService:
    fires_schedules = True

    def __init__(
        self,
        connection: PrefectConnection,
        directory: Directory,
        unit_of_work: UnitOfWorkFactory,
        runs: Cancels,
        *,
        work_pool: str,
        entrypoint: str,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._directory = directory
        self._unit_of_work = unit_of_work
        self._runs = runs
        self._work_pool = work_pool
        self._entrypoint = entrypoint
        self._clock = clock
        self._stack = contextlib.AsyncExitStack()
        self._client: PrefectClient | None = None
        self._flow_id: UUID | None = None
        self._preparing = asyncio.Lock()

    async def initialize(self) -> bool:
        """Connect, and make the work pool, its queues and the flow where they are not there; False, and a warning, when that fails.

        Whatever needs them tries again, so nothing is lost by that.
        """
        try:
            async with self.prepared():
                return True
        except UnavailableError as error:
            log.warning("%s; what is meant for it happens when it is back", error.message)
            return False

    async def close(self) -> None:
        await self._stack.aclose()

    async def work(self) -> None:
        """Prefect's workers do."""

    async def version(self) -> str:
        """The server's version."""
        async with self.reached() as client:
            return f"Prefect {await client.api_version()}"

    # Called from the outbox.

    async def reconcile_ingestion(self, ingestion: Subject) -> None:
        """Make the deployment be what the stored ingestion asks for; an ingestion that goes takes it along."""
        async with self._unit_of_work(ingestion.tenant_id) as tx:
            stored = await tx.ingestions.get_by_id(ingestion.id)
        if stored is None or stored.status is IngestionStatus.DELETING:
            await self.delete_deployment(ingestion.id)
            return
        present = await self.read_deployment(stored.id)
        if present is None or self.differs(present, stored):
            await self.create_deployment(stored)
        elif Deployment.found(present) != Deployment.of(stored):
            await self.update_deployment_schedule(stored, present)

    async def reconcile_run(self, run: Subject) -> bool:
        """True always: Prefect keeps what it is told, and `reconcile_all` looks after it."""
        async with self._unit_of_work(run.tenant_id) as tx:
            stored = await tx.runs.get_by_id(run.id)
            ingestion = await tx.ingestions.get_by_id(stored.ingestion_id) if stored else None
        if stored is None or ingestion is None:
            return True
        flow_run = await self.read_flow_run(stored)
        if stored.status is RunStatus.QUEUED:
            await self._have_executed(stored, ingestion, flow_run)
        elif stored.status is not RunStatus.RUNNING and flow_run is not None:
            await self._have_ended(stored, flow_run)
        return True

    async def _have_executed(self, run: Run, ingestion: Ingestion, flow_run: FlowRun | None) -> None:
        state = flow_run.state if flow_run else None
        if flow_run is not None and state is not None:
            if state.is_cancelling() or state.is_cancelled():
                await self._runs.cancel_in_orchestrator(Subject(run.tenant_id, run.id))
                return
            if state.is_scheduled() or (not state.is_final() and not is_stuck(state, self._clock.now())):
                return
            await self.end_flow_run(flow_run.id, Crashed(message="nobody has executed it"))
        await self.trigger_flow_run(run, ingestion, in_place_of=flow_run.id if flow_run else None)

    async def _have_ended(self, run: Run, flow_run: FlowRun) -> None:
        state = flow_run.state
        if state is None or state.is_final():
            return
        if run.status is RunStatus.CANCELLING:
            await self.cancel_flow_run(flow_run.id)
        else:
            await self.end_flow_run(flow_run.id, state_of(run))

    async def reconcile_all(self) -> None:
        """Deployments and flow runs against what is stored; see `Mending`."""
        await Mending(self, self._directory, self._unit_of_work, self._clock, work_pool=self._work_pool).mend()

    # What Prefect holds.

    async def create_deployment(self, ingestion: Ingestion) -> UUID:
        """The ingestion's deployment, made or made anew under the same name; its id."""
        wanted = Deployment.of(ingestion)
        async with self.prepared() as (client, flow_id):
            return await client.create_deployment(
                flow_id,
                name=wanted.name,
                work_pool_name=self._work_pool,
                work_queue_name=wanted.work_queue,
                entrypoint=self._entrypoint,
                parameters=wanted.parameters,
                tags=sorted(wanted.tags),
                schedules=[DeploymentScheduleCreate(**fields) for fields in wanted.schedules],
                paused=wanted.paused,
            )

    async def update_deployment_schedule(self, ingestion: Ingestion, deployment: DeploymentResponse) -> None:
        """Change when it fires, and whether: paused, resumed, or another time. Flow runs scheduled by the old one go."""
        wanted = Deployment.of(ingestion)
        async with self.prepared() as (client, _):
            schedules = [DeploymentScheduleUpdate(**fields) for fields in wanted.schedules]
            await client.update_deployment(deployment.id, DeploymentUpdate(schedules=schedules, paused=wanted.paused))

    async def delete_deployment(self, ingestion_id: UUID) -> None:
        """Remove it, and what it has scheduled. Nothing happens when there is none."""
        present = await self.read_deployment(ingestion_id)
        if present is not None:
            async with self.reached() as client:
                with contextlib.suppress(ObjectNotFound):
                    await client.delete_deployment(present.id)

    async def read_deployment(self, ingestion_id: UUID) -> DeploymentResponse | None:
        async with self.reached() as client:
            try:
                return await client.read_deployment_by_name(f"{FLOW_NAME}/{ingestion_id}")
            except ObjectNotFound:
                return None

    def differs(self, present: DeploymentResponse, ingestion: Ingestion) -> bool:
        """Whether something besides its schedule is not as it should be."""
        found, wanted = Deployment.found(present), Deployment.of(ingestion)
        if found is None or (present.work_pool_name, present.entrypoint) != (self._work_pool, self._entrypoint):
            return True
        return (found.work_queue, found.tags, found.parameters) != (wanted.work_queue, wanted.tags, wanted.parameters)

    async def trigger_flow_run(self, run: Run, ingestion: Ingestion, *, in_place_of: UUID | None = None) -> UUID:
        """Have the run executed; the flow run's id, which is stored with it. Once, however often it is called.

        A flow run that ended without executing it is replaced by a new one, under a key of its own.
        """
        deployment = await self.read_deployment(ingestion.id)
        deployment_id = deployment.id if deployment else await self.create_deployment(ingestion)
        async with self.prepared() as (client, _):
            flow_run = await client.create_flow_run_from_deployment(
                deployment_id,
                name=f"run {run.id}",
                parameters={"run_id": str(run.id)},
                idempotency_key=str(run.id) if in_place_of is None else f"{run.id}:{in_place_of}",
            )
        async with self._unit_of_work(run.tenant_id) as tx:
            await tx.runs.set_flow_run(run.id, str(flow_run.id))
        return flow_run.id

    async def read_flow_run(self, run: Run) -> FlowRun | None:
        """The flow run that is known to execute the run, if Prefect still has it."""
        if run.flow_run_id is None:
            return None
        async with self.reached() as client:
            try:
                return await client.read_flow_run(UUID(run.flow_run_id))
            except ObjectNotFound:
                return None

    async def cancel_flow_run(self, flow_run_id: UUID) -> None:
        """Ask its worker to stop it."""
        async with self.reached() as client:
            await client.set_flow_run_state(flow_run_id, Cancelling())

    async def end_flow_run(self, flow_run_id: UUID, state: State[Any]) -> None:
        """End it without its worker, which frees its place in the queue."""
        async with self.reached() as client:
            await client.set_flow_run_state(flow_run_id, state, force=True)

    @contextlib.asynccontextmanager
    async def reached(self) -> AsyncIterator[PrefectClient]:
        """The client, for a bounded time. Raises `UnavailableError`; `ObjectNotFound` passes."""
        with errors_named(self._connection.host):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                if self._client is None:
                    self._client = await self._stack.enter_async_context(self._connection.client())
                yield self._client

    @contextlib.asynccontextmanager
    async def prepared(self) -> AsyncIterator[tuple[PrefectClient, UUID]]:
        """The same, with the flow's id, once work pool, queues and flow are there."""
        async with self.reached() as client:
            async with self._preparing:
                if self._flow_id is None:
                    self._flow_id = await self._prepare(client)
            try:
                yield client, self._flow_id
            except (ObjectNotFound, httpx.HTTPStatusError) as error:
                # The server may have lost its memory: looked at again, and made again, the next time.
                self._flow_id = None
                raise UnavailableError(f"Prefect at {self._connection.host} does not know what it is asked about") from error

    async def _prepare(self, client: PrefectClient) -> UUID:
        with contextlib.suppress(ObjectAlreadyExists):
            template = WarmWorker.get_default_base_job_template()
            await client.create_work_pool(WorkPoolCreate(name=self._work_pool, type=WarmWorker.type, base_job_template=template))
        present = {queue.name for queue in await client.read_work_queues(work_pool_name=self._work_pool)}
        for priority, queue in enumerate(QUEUES.values(), start=1):
            if queue not in present:
                with contextlib.suppress(ObjectAlreadyExists):
                    await client.create_work_queue(name=queue, work_pool_name=self._work_pool, priority=priority)
        return await client.create_flow_from_name(FLOW_NAME)
