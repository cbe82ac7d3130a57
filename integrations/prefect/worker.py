"""A worker that executes flow runs in its own warm process: no interpreter to start, nothing to import, connections that are open.

Prefect's base class takes flow runs from the work pool and reports what it did. What it leaves to its children is here: running
the flow, reporting what happens before the engine has it, stopping it when that is asked, and going in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import anyio.abc
import httpx
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import AsyncClientContext
from prefect.events.worker import EventsWorker
from prefect.exceptions import Abort, Pause, PrefectException
from prefect.flow_engine import run_flow_async
from prefect.flows import Flow
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from integrations.prefect.stopping import CURRENT, Stopping

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_WATCH_SECONDS = 0.5
_HEARTBEAT_SECONDS = 15
_RETRY_SECONDS = 2.0
_EVENTS_SECONDS = 3.0


class WarmWorker(BaseWorker[BaseJobConfiguration, BaseVariables, BaseWorkerResult]):
    type = "autoloader"
    job_configuration = BaseJobConfiguration
    job_configuration_variables = BaseVariables

    _description = "Executes runs of Autoloader in the process of `autoloader worker`."

    def __init__(self, flow: Flow[..., Any], *, work_pool: str, at_once: int, drain_seconds: float) -> None:
        """`drain_seconds` is how long flow runs in hand may go on when the worker is to go."""
        super().__init__(work_pool_name=work_pool, limit=at_once, prefetch_seconds=0, heartbeat_interval_seconds=_HEARTBEAT_SECONDS)
        self._flow = flow
        self._drain_seconds = drain_seconds
        self._in_hand: dict[UUID, Stopping] = {}
        self._reached = True

    async def serve(self) -> None:
        """Until cancelled: execute what comes. Then take no more, let what is in hand go on for a while, and stop the rest.

        A second cancellation does not wait for that.
        """
        # One client for all flow runs: making one takes longer than a small run.
        async with AsyncClientContext.get_or_create(), asyncio.TaskGroup() as chores:
            watching = chores.create_task(self._now_and_then(_WATCH_SECONDS, self._stop_cancelled), name="prefect cancellations")
            async with self:
                taking = chores.create_task(self._now_and_then(_POLL_SECONDS, self.get_and_submit_flow_runs), name="prefect flow runs")
                beating = chores.create_task(self._now_and_then(_HEARTBEAT_SECONDS, self._beat), name="prefect heartbeat")
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    taking.cancel()
                    beating.cancel()
                    await asyncio.wait({taking, beating})
                    if self._in_hand:
                        log.info(
                            "no more flow runs are taken; %d in hand may go on for %d seconds", len(self._in_hand), self._drain_seconds
                        )
                    asyncio.get_running_loop().call_later(self._drain_seconds, self._stop_all)
            watching.cancel()
        # While there is a server to send it to: at the interpreter's end this would wait for one.
        await _sent_off()
        raise asyncio.CancelledError

    async def run(
        self, flow_run: FlowRun, configuration: BaseJobConfiguration, task_status: anyio.abc.TaskStatus[Any] | None = None
    ) -> BaseWorkerResult:
        """Execute the flow run here. By a status other than 0 the base class is told to report it as crashed, unless it has ended."""
        stopping = self._in_hand[flow_run.id] = Stopping()
        CURRENT.set(stopping)
        status = 0
        try:
            if task_status is not None:
                task_status.started(f"{self.name}:{flow_run.id}")
            await run_flow_async(self._flow, flow_run=flow_run, parameters=dict(flow_run.parameters), return_type="state")
        except (Abort, Pause) as signal:
            # Not Exceptions: they would end the worker. The server does not want it to run (any more).
            log.info("flow run %s does not run: %s", flow_run.id, signal)
        except Exception:
            log.exception("flow run %s crashed", flow_run.id)
            status = 1
        finally:
            del self._in_hand[flow_run.id]
        return BaseWorkerResult(identifier=str(flow_run.id), status_code=status)

    async def _stop_cancelled(self) -> None:
        if not self._in_hand or self._client is None:
            return
        asked_to = FlowRunFilter(
            id=FlowRunFilterId(any_=list(self._in_hand)),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING, StateType.CANCELLED])),
        )
        for flow_run in await self._client.read_flow_runs(flow_run_filter=asked_to):
            if stopping := self._in_hand.get(flow_run.id):
                stopping.ask(to_be_cancelled=True)

    def _stop_all(self) -> None:
        for stopping in self._in_hand.values():
            stopping.ask(to_be_cancelled=False)

    async def _beat(self) -> None:
        while not self._has_successfully_synced:
            await self._sync_and_initialize()
            if not self._has_successfully_synced:
                await asyncio.sleep(_RETRY_SECONDS)
        await self.sync_with_backend()

    async def _now_and_then(self, seconds: float, chore: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await chore()
            except (httpx.HTTPError, PrefectException) as error:
                self._tell(reached=False, why=error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._tell(reached=True)
                await asyncio.sleep(seconds)

    def _tell(self, *, reached: bool, why: Exception | None = None) -> None:
        """Once for each time that Prefect goes, and comes back."""
        if reached and not self._reached:
            log.info("Prefect answers again")
        elif not reached and self._reached:
            log.warning("the worker cannot reach Prefect: %r; it goes on trying", why)
        self._reached = reached


async def _sent_off() -> None:
    """Prefect tells the server of tasks by events, from a thread of its own: wait for what it still has."""
    drained = EventsWorker.drain_all(timeout=_EVENTS_SECONDS)
    if not isinstance(drained, tuple):
        await drained
