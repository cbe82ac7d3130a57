"""Loading a table anew: planned, confirmed, queued as a run, and begun by that run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from pydantic import StrictBool

from domain.clock import Clock
from domain.errors import ConfirmationRequiredError, LeaseLostError, NotFoundError, UnavailableError
from domain.idempotency import first_result
from domain.ingestions.checkpoints import Checkpoints
from domain.ingestions.entities import EngineType, Ingestion, IngestionStatus, Reset
from domain.ingestions.inputs import IdempotencyKey, InputModel
from domain.ledger.batch_processor import BatchFileProcessor
from domain.ledger.entities import FileStatus
from domain.ports.engine import Engine
from domain.ports.unit_of_work import Topic, UnitOfWork, UnitOfWorkFactory
from domain.runs.entities import Refresh, RefreshMode, Run, RunTrigger
from domain.runs.service import new_run, queue, require_runnable
from domain.steps import Step, reached
from domain.tenants import Principal

log = logging.getLogger(__name__)


class RefreshRequest(InputModel):
    """`dry_run` asks for the plan alone, and then nothing has to be confirmed."""

    ingestion_id: UUID
    mode: RefreshMode
    confirm: StrictBool = False
    dry_run: StrictBool = False
    auto_run: StrictBool = True
    idempotency_key: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class RefreshPlan:
    """What a refresh would do to things as they are.

    `rows_dropped` go with the table, which is `table_exists`. `files_forgotten` leave the ledger; `files_absent` stay in it as
    loaded, but not into the new table; `files_waiting` are known and would be loaded: with FULL those come on top that the listing
    finds.
    """

    mode: RefreshMode
    table_exists: bool
    rows_dropped: int
    files_forgotten: int
    files_absent: int
    files_waiting: int
    generation: int


@dataclass(frozen=True, slots=True)
class RefreshOutcome:
    """`run` is None when it was only planned."""

    plan: RefreshPlan
    run: Run | None


class RefreshService:
    def __init__(
        self,
        unit_of_work: UnitOfWorkFactory,
        engines: Mapping[EngineType, Engine],
        processor: BatchFileProcessor,
        clock: Clock,
        checkpoints: Checkpoints,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._engines = engines
        self._processor = processor
        self._clock = clock
        self._checkpoints = checkpoints

    async def refresh(self, principal: Principal, request: RefreshRequest) -> RefreshOutcome:
        """Queue a REFRESH run, or (`dry_run`) say what it would do.

        Raises `ConfirmationRequiredError`, `NotFoundError`, `ConflictError` (WRONG_STATE, RUN_ACTIVE, IDEMPOTENCY_KEY_REUSED),
        `TableUnavailableError`; then nothing has been done.
        """
        if not (request.confirm or request.dry_run):
            raise ConfirmationRequiredError("a refresh drops the table: confirm it, or ask for a dry run")
        plan = await self.plan(principal, request.ingestion_id, request.mode)
        if request.dry_run:
            return RefreshOutcome(plan, None)
        tenant_id = principal.tenant.id
        run = new_run(
            tenant_id,
            request.ingestion_id,
            RunTrigger.REFRESH,
            at=self._clock.now(),
            refresh=Refresh(request.mode, load=request.auto_run),
        )
        async with self._unit_of_work(tenant_id) as tx:
            if earlier := await first_result(tx, "refreshIngestion", request, run.id, tx.runs.get_by_id):
                return RefreshOutcome(plan, earlier)
            await require_runnable(tx, request.ingestion_id)
            await tx.audit.record(principal, "refreshIngestion", "Run", run.id)
            return RefreshOutcome(plan, await queue(tx, run))

    async def plan(self, principal: Principal, ingestion_id: UUID, mode: RefreshMode) -> RefreshPlan:
        """Raises `NotFoundError`, `TableUnavailableError`."""
        async with self._unit_of_work(principal.tenant.id) as tx:
            ingestion = await tx.ingestions.get_by_id(ingestion_id)
            if ingestion is None or ingestion.status is IngestionStatus.DELETING:
                raise NotFoundError("ingestion")
            ours = await tx.ingestions.get_table(ingestion_id)
            files = await tx.files.count_by_status(ingestion_id)
        table = await self._engines[ingestion.execution.engine].table_state(ingestion.destination)
        exists = table is not None and table.uuid == ours
        full = mode is RefreshMode.FULL
        return RefreshPlan(
            mode=mode,
            table_exists=exists,
            rows_dropped=table.rows if table is not None and exists else 0,
            files_forgotten=sum(files.values()) if full else 0,
            files_absent=0 if full else files.get(FileStatus.SUCCESS, 0),
            files_waiting=0 if full else sum(files.get(status, 0) for status in (FileStatus.PENDING, FileStatus.FAILED, FileStatus.HELD)),
            generation=ingestion.generation + 1,
        )

    async def begin(self, run: Run, ingestion: Ingestion) -> None:
        """The run's first step: from here on the ingestion is of a new generation, and its old table is to be dropped.

        Batches of lost workers are settled before, so that what they have loaded is known. Raises `LeaseLostError` when the run
        has ended meanwhile, `UnavailableError` when a batch cannot be settled.
        """
        assert run.refresh is not None
        await self._processor.settle_abandoned(ingestion, without_table=True)
        async with self._unit_of_work(run.tenant_id) as tx:
            present = await tx.ingestions.get_by_id(ingestion.id, for_update=True)
            if present is None or not await tx.runs.hold_running(run.id):
                raise LeaseLostError(f"run {run.id}")
            if await tx.batches.get_abandoned(ingestion.id):
                raise UnavailableError("a batch of a lost worker is still being settled; try again")
            await self._begin(tx, present, run.refresh.mode)
            await tx.outbox.add(Topic.INGESTION, ingestion.id)
        reached(Step.RESET_DECIDED)
        log.info("ingestion %s: %s refresh, generation %d begins", ingestion.id, run.refresh.mode, present.generation + 1)

    async def _begin(self, tx: UnitOfWork, present: Ingestion, mode: RefreshMode) -> None:
        full, before = mode is RefreshMode.FULL, present.reset
        table = await tx.ingestions.get_table(present.id)
        reset = Reset(
            id=uuid4(),
            # A reset that is not done yet has left the table to this one, or is a clear, whose rows go with the table.
            drop_table=table or (before.drop_table if before else None),
            requeue_files=not full,
            forget_files=full or (before is not None and before.forget_files),
            path_prefix=before.path_prefix if before and not full else None,
        )
        checkpoint_path = (
            self._checkpoints.path(present.tenant_id, present.id, version=present.version + 1) if full else present.checkpoint_path
        )
        await tx.ingestions.begin_reset(present.id, reset, generation=present.generation + 1, checkpoint_path=checkpoint_path)
