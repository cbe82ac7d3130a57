"""The chores of one process at a time: the outbox, the schedules, late data, what lost workers have left, and the ledger's counts."""

from __future__ import annotations

import asyncio
import logging
import time

from autoloader.deliveries import Deliveries
from domain.activity.feed import KEPT_SECONDS
from domain.errors import DomainError
from domain.ingestions.resets import ResetService
from domain.ledger.table_care import TableCareService
from domain.log_fields import binding
from domain.notifications.delivery import DELIVERIES_KEPT_SECONDS
from domain.notifications.lateness import LatenessService
from domain.ports.orchestrator import Orchestrator
from domain.ports.telemetry import Telemetry
from domain.ports.unit_of_work import Directory, OutboxEntry, Subject, Topic
from domain.runs.pipeline import RunPipeline
from domain.runs.service import RunService
from persistence.wakeup import Ownership, background_ownership

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_STANDBY_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 2.0
_VISIBLE_AFTER_SECONDS = 60.0
_LONGEST_POSTPONEMENT_SECONDS = 300.0
_ENTRIES_AT_ONCE = 50
_COMPACT_EVERY_SECONDS = 10.0
_CHANGES_AT_ONCE = 10_000
_FORGET_EVERY_SECONDS = 60.0
_FORGOTTEN_AT_ONCE = 10_000


class Background:
    def __init__(
        self,
        database_url: str,
        directory: Directory,
        orchestrator: Orchestrator,
        runs: RunService,
        pipeline: RunPipeline,
        resets: ResetService,
        tables: TableCareService,
        deliveries: Deliveries,
        lateness: LatenessService,
        telemetry: Telemetry,
        *,
        recover_every_seconds: float,
    ) -> None:
        self._database_url = database_url
        self._directory = directory
        self._orchestrator = orchestrator
        self._runs = runs
        self._pipeline = pipeline
        self._resets = resets
        self._tables = tables
        self._deliveries = deliveries
        self._lateness = lateness
        self._tending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._telemetry = telemetry
        self._recover_every_seconds = recover_every_seconds

    async def run(self) -> None:
        """Until cancelled: take the background lock when it is free, and do the work while it is held."""
        while True:
            try:
                async with background_ownership(self._database_url) as ownership:
                    if ownership is not None:
                        self._telemetry.owns_background(True)
                        await self._work(ownership)
            except asyncio.CancelledError:
                await self._stop_tending()
                await self._deliveries.close()
                raise
            except Exception as error:
                log.warning("background work is interrupted: %r", error)
            finally:
                self._telemetry.owns_background(False)
            await asyncio.sleep(_STANDBY_SECONDS)

    async def _work(self, ownership: Ownership) -> None:
        recovered_at, compacted_at = -self._recover_every_seconds, -_COMPACT_EVERY_SECONDS
        forgot_at = -_FORGET_EVERY_SECONDS
        while True:
            if time.monotonic() - recovered_at >= self._recover_every_seconds:
                with binding(operation="recoverLost", operation_kind="background"):
                    await self._pipeline.recover_lost()
                recovered_at = time.monotonic()
            if time.monotonic() - compacted_at >= _COMPACT_EVERY_SECONDS:
                await self._directory.compact_file_counts(_CHANGES_AT_ONCE)
                compacted_at = time.monotonic()
            if time.monotonic() - forgot_at >= _FORGET_EVERY_SECONDS:
                await self._directory.forget_activity(older_than_seconds=KEPT_SECONDS, limit=_FORGOTTEN_AT_ONCE)
                await self._directory.forget_deliveries(older_than_seconds=DELIVERIES_KEPT_SECONDS, limit=_FORGOTTEN_AT_ONCE)
                forgot_at = time.monotonic()
            with binding(operation="fireDueSchedules", operation_kind="background"):
                await self._runs.fire_due_schedules(self._directory)
            with binding(operation="tellLateness", operation_kind="background"):
                await self._lateness.tell(self._directory)
            while entries := await self._directory.take_outbox(_ENTRIES_AT_ONCE, visible_after_seconds=_VISIBLE_AFTER_SECONDS):
                for entry in entries:
                    run_id = entry.subject.id if entry.topic is Topic.RUN else None
                    operation = f"reconcile{entry.topic.value.title()}"
                    with binding(operation=operation, operation_kind="outbox", tenant=entry.subject.tenant_id, run_id=run_id):
                        await self._handle(entry)
            await ownership.wait(_TICK_SECONDS)

    async def _handle(self, entry: OutboxEntry) -> None:
        try:
            settled = True
            match entry.topic:
                case Topic.RUN:
                    settled = await self._orchestrator.reconcile_run(entry.subject)
                case Topic.INGESTION:
                    await self._orchestrator.reconcile_ingestion(entry.subject)
                    await self._resets.finish(entry.subject)
                case Topic.TABLE:
                    self._tend(entry.subject)
                case Topic.DELIVERY:
                    self._deliveries.take(entry)
                    return
        except Exception as error:
            if not isinstance(error, DomainError):
                log.exception("outbox entry %s %s", entry.topic, entry.subject.id)
            wait = min(_LONGEST_POSTPONEMENT_SECONDS, 2.0 ** min(entry.attempts, 10))
            await self._directory.postpone_outbox(entry, seconds=wait, error=str(error))
            return
        if settled:
            await self._directory.finish_outbox(entry)
        else:
            await self._directory.postpone_outbox(entry, seconds=_LOOK_AGAIN_SECONDS, error=None)

    def _tend(self, ingestion: Subject) -> None:
        """Beside the other chores, for it may take long; if it is lost, the table's next snapshots bring it again."""
        task = asyncio.create_task(self._tend_in_turn(ingestion), name=f"tend {ingestion.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tend_in_turn(self, ingestion: Subject) -> None:
        async with self._tending:
            try:
                await self._tables.tend(ingestion)
            except Exception as error:
                log.warning("the table of ingestion %s could not be tended: %r", ingestion.id, error)

    async def _stop_tending(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
