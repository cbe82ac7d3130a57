"""The chores of one process at a time: the outbox, the schedules, queues of notifications, late data, what lost workers have left, and

the ledger's counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from autoloader.outbox import Lane, OutboxWork
from domain.activity.feed import KEPT_SECONDS
from domain.errors import UnavailableError
from domain.idempotency import KEYS_KEPT_SECONDS
from domain.log_fields import binding
from domain.notifications.delivery import DELIVERIES_KEPT_SECONDS
from domain.notifications.lateness import LatenessService
from domain.ports.orchestrator import Orchestrator
from domain.ports.telemetry import Telemetry
from domain.ports.unit_of_work import Directory, Topic
from domain.runs.event_runs import EventRunService
from domain.runs.pipeline import RunPipeline
from domain.runs.service import RunService
from persistence.wakeup import Ownership, background_ownership

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_STANDBY_SECONDS = 2.0
_RECOVER_EVERY_SECONDS = 5.0
_MEND_EVERY_SECONDS = 60.0
_COMPACT_EVERY_SECONDS = 10.0
_CHANGES_AT_ONCE = 10_000
_FORGET_EVERY_SECONDS = 60.0
_FORGOTTEN_AT_ONCE = 10_000


class Background:
    def __init__(
        self,
        database_url: str,
        directory: Directory,
        lanes: Mapping[Topic, Lane],
        runs: RunService,
        pipeline: RunPipeline,
        orchestrator: Orchestrator,
        lateness: LatenessService,
        event_runs: EventRunService,
        telemetry: Telemetry,
        *,
        queue_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._database_url = database_url
        self._directory = directory
        self._lanes = lanes
        self._runs = runs
        self._pipeline = pipeline
        self._orchestrator = orchestrator
        self._lateness = lateness
        self._event_runs = event_runs
        self._queue_seconds = queue_seconds
        self._telemetry = telemetry
        # A fraction of a lease, so that what a lost worker has left is found soon after its lease has expired.
        self._recover_every_seconds = min(_RECOVER_EVERY_SECONDS, lease_seconds / 3)
        self._standby_seconds = min(_STANDBY_SECONDS, lease_seconds / 3)
        self._lease_seconds = lease_seconds

    async def run(self) -> None:
        """Until cancelled: take the background lock when it is free, and do the work while it is held."""
        while True:
            try:
                # In a task of its own, for one in which a TaskGroup has failed looks as if it were asked to end (Python 3.11).
                await asyncio.create_task(self._work_while_owner(), name="background work")
            except Exception as error:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    # A chore failed as it was cancelled, and its error took the cancellation's place.
                    raise asyncio.CancelledError from error
                log.warning("background work is interrupted: %r", _first(error))
            await asyncio.sleep(self._standby_seconds)

    async def _work_while_owner(self) -> None:
        try:
            async with background_ownership(self._database_url, patience_seconds=self._lease_seconds) as ownership:
                if ownership is not None:
                    self._telemetry.owns_background(True)
                    await self._work(ownership)
        finally:
            self._telemetry.owns_background(False)

    async def _work(self, ownership: Ownership) -> None:
        """Each chore beside the others, so that none waits for one that takes long; all of them end with the first that fails."""
        async with asyncio.TaskGroup() as chores:
            chores.create_task(self._empty_outbox(ownership))
            if not self._orchestrator.fires_schedules:
                chores.create_task(_every(_TICK_SECONDS, self._fire_schedules))
            chores.create_task(_every(_MEND_EVERY_SECONDS, self._mend))
            chores.create_task(_every(self._queue_seconds, self._begin_event_runs))
            chores.create_task(_every(_TICK_SECONDS, self._tell_lateness))
            chores.create_task(_every(self._recover_every_seconds, self._recover))
            chores.create_task(_every(_COMPACT_EVERY_SECONDS, self._compact))
            chores.create_task(_every(_FORGET_EVERY_SECONDS, self._forget))

    async def _empty_outbox(self, ownership: Ownership) -> None:
        work = OutboxWork(self._directory, self._lanes, free=ownership.wake, visible_after_seconds=self._lease_seconds)
        try:
            while True:
                await work.start()
                await ownership.wait(_TICK_SECONDS)
        finally:
            await work.stop()

    async def _fire_schedules(self) -> None:
        with binding(operation="fireDueSchedules", operation_kind="background"):
            await self._runs.fire_due_schedules(self._directory)

    async def _begin_event_runs(self) -> None:
        with binding(operation="beginEventRuns", operation_kind="background"):
            await self._event_runs.begin_runs(self._directory)

    async def _tell_lateness(self) -> None:
        with binding(operation="tellLateness", operation_kind="background"):
            await self._lateness.tell(self._directory)

    async def _recover(self) -> None:
        with binding(operation="recoverLost", operation_kind="background"):
            await self._pipeline.recover_lost()

    async def _mend(self) -> None:
        with binding(operation="reconcileAll", operation_kind="background"):
            try:
                await self._orchestrator.reconcile_all()
            except UnavailableError as error:
                log.warning("the orchestrator cannot be compared with what is stored: %s", error.message)
            except Exception:
                # What somebody has put there may be anything: it is not to keep all else from being done.
                log.exception("the orchestrator cannot be compared with what is stored")

    async def _compact(self) -> None:
        await self._directory.compact_file_counts(_CHANGES_AT_ONCE)

    async def _forget(self) -> None:
        await self._directory.forget_activity(older_than_seconds=KEPT_SECONDS, limit=_FORGOTTEN_AT_ONCE)
        await self._directory.forget_deliveries(older_than_seconds=DELIVERIES_KEPT_SECONDS, limit=_FORGOTTEN_AT_ONCE)
        await self._directory.forget_idempotency_keys(older_than_seconds=KEYS_KEPT_SECONDS, limit=_FORGOTTEN_AT_ONCE)


async def _every(seconds: float, chore: Callable[[], Awaitable[object]]) -> None:
    while True:
        await chore()
        await asyncio.sleep(seconds)


def _first(error: BaseException) -> BaseException:
    """What has gone wrong, out of the group that it ended."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
