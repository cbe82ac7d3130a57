"""How runs come to be: asked for by a person, or fired by a schedule."""

from __future__ import annotations

import dataclasses
import logging
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from domain.clock import Clock
from domain.errors import ConflictError, ConflictReason, NotFoundError
from domain.idempotency import first_result
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ingestions.inputs import IdempotencyKey, InputModel
from domain.ingestions.schedules import next_due
from domain.ingestions.streaming import refuse_streaming
from domain.log_fields import binding
from domain.ports.telemetry import NO_TELEMETRY, Telemetry
from domain.ports.unit_of_work import Directory, Subject, Topic, UnitOfWork, UnitOfWorkFactory
from domain.runs.entities import Refresh, Run, RunStatus, RunTrigger
from domain.states import RETRYABLE_RUN, RUNNABLE
from domain.tenants import Principal

log = logging.getLogger(__name__)

REFIRE_SECONDS = 60.0
"""After how long a schedule that could not be fired is tried again."""


class RunRequest(InputModel):
    ingestion_id: UUID
    idempotency_key: IdempotencyKey | None = None


class RetryRequest(InputModel):
    run_id: UUID
    idempotency_key: IdempotencyKey | None = None


class RunService:
    def __init__(self, unit_of_work: UnitOfWorkFactory, clock: Clock, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock
        self._telemetry = telemetry

    async def run_ingestion(self, principal: Principal, request: RunRequest) -> Run:
        """Queue a MANUAL run. Raises `NotFoundError`, `ConflictError` (WRONG_STATE, RUN_ACTIVE, IDEMPOTENCY_KEY_REUSED)."""
        async with self._unit_of_work(principal.tenant.id) as tx:
            run = new_run(principal.tenant.id, request.ingestion_id, RunTrigger.MANUAL, at=self._clock.now())
            if earlier := await first_result(tx, "runIngestion", request, run.id, tx.runs.get_by_id):
                return earlier
            await require_runnable(tx, request.ingestion_id)
            await tx.audit.record(principal, "runIngestion", "Run", run.id)
            return await queue(tx, run)

    async def retry_run(self, principal: Principal, request: RetryRequest) -> Run:
        """Queue a RETRY run for the files that a run had before it and that are not loaded; the run itself stays as it is.

        A run that had not come to the end of its listing had all before it that waits: its retry lists too.

        Raises `NotFoundError`, `ConflictError`: WRONG_STATE when the run has not ended short of its files or the ingestion
        refuses runs, RUN_ACTIVE, IDEMPOTENCY_KEY_REUSED; `UnsupportedError` for a streamed ingestion's.
        """
        async with self._unit_of_work(principal.tenant.id) as tx:
            original = await tx.runs.get_by_id(request.run_id)
            if original is None:
                raise NotFoundError("run")
            run = retry_of(original, at=self._clock.now())
            if earlier := await first_result(tx, "retryRun", request, run.id, tx.runs.get_by_id):
                return earlier
            ingestion = await require_runnable(tx, original.ingestion_id)
            refuse_streaming(ingestion, "a run cannot be retried, and another one goes on where it ended,")
            if original.status not in RETRYABLE_RUN:
                raise ConflictError(ConflictReason.WRONG_STATE, f"a run that is {original.status} has nothing to retry")
            await tx.audit.record(principal, "retryRun", "Run", run.id)
            return await queue(tx, run)

    async def cancel_run(self, principal: Principal, id: UUID) -> Run:
        """QUEUED -> CANCELLED at once; RUNNING -> CANCELLING, and CANCELLED when its worker has settled what it has in hand.

        A run that is being cancelled is returned as it is. Raises `NotFoundError`, `ConflictError` (WRONG_STATE).
        """
        async with self._unit_of_work(principal.tenant.id) as tx:
            run = _found(await tx.runs.get_by_id(id))
            await tx.ingestions.get_by_id(run.ingestion_id, for_update=True)
            run = _found(await tx.runs.get_by_id(id))
            if run.status is RunStatus.CANCELLING:
                return run
            await tx.audit.record(principal, "cancelRun", "Run", id)
            cancelled = await self._cancel(tx, run)
            await tx.outbox.add(Topic.RUN, id)
        return self._told(cancelled)

    async def cancel_in_orchestrator(self, subject: Subject) -> Run | None:
        """The same, when somebody has asked the orchestrator to; None when there is nothing (more) to cancel."""
        async with self._unit_of_work(subject.tenant_id) as tx:
            run = await tx.runs.get_by_id(subject.id)
            if run is None:
                return None
            await tx.ingestions.get_by_id(run.ingestion_id, for_update=True)
            run = await tx.runs.get_by_id(subject.id)
            if run is None or run.status not in (RunStatus.QUEUED, RunStatus.RUNNING):
                return None
            cancelled = await self._cancel(tx, run)
        return self._told(cancelled)

    async def run_for_orchestrator(
        self, ingestion: Subject, flow_run_id: str, *, run_id: UUID | None = None, due_at: datetime | None = None
    ) -> Run | None:
        """The QUEUED run that an execution of the orchestrator is to take to its end.

        It is the one with `run_id`, or else one of the execution's own, which the orchestrator has begun by itself: by its
        schedule, for the moment `due_at`, or by hand. There is one run for one `flow_run_id`, and one for a moment of a
        schedule. None when nothing is to be executed: the run is there and not QUEUED any more, another run is active, the
        ingestion does not allow it, or a later moment of the schedule has passed too, which makes the run for both.
        """
        async with self._unit_of_work(ingestion.tenant_id) as tx:
            present = await tx.ingestions.get_by_id(ingestion.id, for_update=True)
            made = await (tx.runs.get_by_flow_run(flow_run_id) if run_id is None else tx.runs.get_by_id(run_id))
            if made is not None or run_id is not None:
                if made is None or made.status is not RunStatus.QUEUED or made.ingestion_id != ingestion.id:
                    log.info("flow run %s of ingestion %s passed over: its run is not queued any more", flow_run_id, ingestion.id)
                    return None
                if made.flow_run_id != flow_run_id:
                    await tx.runs.set_flow_run(made.id, flow_run_id)
                return made
            now = self._clock.now()
            reason = _kept_from_running(present, due_at, now)
            if present is None or reason is not None:
                log.info("flow run %s of ingestion %s passed over: %s", flow_run_id, ingestion.id, reason)
                return None
            if due_at is not None and present.schedule is not None:
                await tx.ingestions.set_next_due(present.id, next_due(present.schedule, now))
                if await tx.runs.get_scheduled(present.id, due_at):
                    return None
            trigger = RunTrigger.MANUAL if due_at is None else RunTrigger.SCHEDULED
            run = dataclasses.replace(new_run(present.tenant_id, present.id, trigger, at=now, due_at=due_at), flow_run_id=flow_run_id)
            try:
                return await tx.runs.create(run)
            except ConflictError as error:
                log.info("flow run %s of ingestion %s passed over: %s", flow_run_id, ingestion.id, error.message)
                return None

    async def fire_due_schedules(self, directory: Directory, *, limit: int = 100) -> int:
        """Queue a SCHEDULED run for each ingestion whose schedule has fired, and set its next firing; how many were queued.

        A firing is unique per (ingestion, due time). Firings missed while nobody looked become one run. A firing that
        meets an active run is passed over: the next listing finds the same files. One that fails is due again `REFIRE_SECONDS` later,
        so that those which keep failing keep no others waiting, however many they are.
        """
        now = self._clock.now()
        queued = 0
        for ingestion in await directory.due_ingestions(now, limit):
            with binding(tenant=ingestion.tenant_id):
                try:
                    queued += await self._fire(ingestion, now)
                except Exception:
                    log.exception("schedule of ingestion %s could not be fired", ingestion.id)
                    await self._postpone(ingestion, now)
        return queued

    async def _postpone(self, seen: Ingestion, now: datetime) -> None:
        try:
            async with self._unit_of_work(seen.tenant_id) as tx:
                present = await tx.ingestions.get_by_id(seen.id, for_update=True)
                if present is not None and present.next_due_at == seen.next_due_at:
                    await tx.ingestions.set_next_due(seen.id, now + timedelta(seconds=REFIRE_SECONDS))
        except Exception:
            log.exception("schedule of ingestion %s stays among the first to be fired", seen.id)

    async def _fire(self, seen: Ingestion, now: datetime) -> bool:
        async with self._unit_of_work(seen.tenant_id) as tx:
            ingestion = await tx.ingestions.get_by_id(seen.id, for_update=True)
            due_at = ingestion.next_due_at if ingestion else None
            if ingestion is None or ingestion.schedule is None or ingestion.status is not IngestionStatus.ACTIVE:
                return False
            if due_at is None or due_at > now:
                return False
            await tx.ingestions.set_next_due(ingestion.id, next_due(ingestion.schedule, now))
            if await tx.runs.get_scheduled(ingestion.id, due_at):
                return False
            try:
                await queue(tx, new_run(ingestion.tenant_id, ingestion.id, RunTrigger.SCHEDULED, at=now, due_at=due_at))
            except ConflictError as error:
                log.info("schedule of ingestion %s passed over: %s", ingestion.id, error.message)
                return False
            return True

    async def _cancel(self, tx: UnitOfWork, run: Run) -> Run:
        ended = run.status is RunStatus.QUEUED
        return await tx.runs.update_status(run.id, RunStatus.CANCELLED if ended else RunStatus.CANCELLING, at=self._clock.now())

    def _told(self, cancelled: Run) -> Run:
        if cancelled.status is RunStatus.CANCELLED:
            self._telemetry.ended(cancelled)
        return cancelled


def _kept_from_running(ingestion: Ingestion | None, due_at: datetime | None, now: datetime) -> str | None:
    """Why the orchestrator's own execution is to do nothing, if it is."""
    if ingestion is None:
        return "there is no such ingestion"
    if due_at is None:
        return None if ingestion.status in RUNNABLE else f"it is {ingestion.status}"
    if ingestion.status is not IngestionStatus.ACTIVE:
        return f"it is {ingestion.status}"
    if ingestion.schedule is None:
        return "it has no schedule"
    return "a later firing is due as well" if next_due(ingestion.schedule, due_at) <= now else None


async def require_runnable(tx: UnitOfWork, ingestion_id: UUID) -> Ingestion:
    """Hold the ingestion's row. Raises `NotFoundError`, and `ConflictError` (WRONG_STATE) unless it may be run by hand."""
    ingestion = await tx.ingestions.get_by_id(ingestion_id, for_update=True)
    if ingestion is None or ingestion.status is IngestionStatus.DELETING:
        raise NotFoundError("ingestion")
    if ingestion.status not in RUNNABLE:
        raise ConflictError(ConflictReason.WRONG_STATE, f"an ingestion that is {ingestion.status} cannot be run")
    return ingestion


async def queue(tx: UnitOfWork, run: Run) -> Run:
    """Store a run, and have it executed once the transaction has committed. Raises `ConflictError` (RUN_ACTIVE)."""
    created = await tx.runs.create(run)
    await tx.outbox.add(Topic.RUN, run.id)
    return created


def new_run(
    tenant_id: UUID,
    ingestion_id: UUID,
    trigger: RunTrigger,
    *,
    at: datetime,
    due_at: datetime | None = None,
    refresh: Refresh | None = None,
) -> Run:
    """A QUEUED run that has done nothing yet."""
    return Run(
        id=uuid4(),
        tenant_id=tenant_id,
        ingestion_id=ingestion_id,
        status=RunStatus.QUEUED,
        trigger=trigger,
        refresh=refresh,
        retry_of_id=None,
        retry_count=0,
        lists=True,
        listings=0,
        due_at=due_at,
        queued_at=at,
        started_at=None,
        ended_at=None,
        duration_seconds=None,
        lease_expires_at=None,
        files_total=None,
        files_discovered=0,
        files_processed=0,
        files_failed=0,
        files_skipped=0,
        files_held=0,
        rows_written=0,
        rows_skipped=0,
        rows_rescued=0,
        bytes_processed=0,
        error_message=None,
        flow_run_id=None,
    )


def retry_of(original: Run, *, at: datetime) -> Run:
    """A QUEUED run for what another has left, and for what that one had not come to list."""
    return dataclasses.replace(
        new_run(original.tenant_id, original.ingestion_id, RunTrigger.RETRY, at=at),
        retry_of_id=original.id,
        retry_count=original.retry_count + 1,
        lists=original.files_total is None,
    )


def _found(run: Run | None) -> Run:
    if run is None:
        raise NotFoundError("run")
    return run
