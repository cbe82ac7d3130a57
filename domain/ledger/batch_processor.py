"""Claim, load, mark: the loop in which files become rows, exactly once.

The order of things is the promise. A claim stores batch and lease before the engine sees a file; the engine commits
once, after asking whether the lease still holds; the marks follow under the same epoch. Whatever happens in between
is settled by asking the table, never by guessing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass
from uuid import UUID, uuid4

from domain.errors import DomainError, LeaseLostError
from domain.ingestions.entities import EngineType, Ingestion, Policies, SchemaEvolution
from domain.ledger.entities import Batch, ClaimedFile
from domain.ledger.schema_proposals import hold
from domain.ledger.table_care import ask_when_due
from domain.notifications.announcing import announce
from domain.notifications.events import schema_changed
from domain.ports.engine import (
    NONE_REPLACED,
    BatchEvidence,
    BatchFile,
    BatchOutcome,
    Engine,
    FileOutcome,
    LoadBatch,
    OutcomeStatus,
    Replaced,
    TableMissingError,
    TableReplacedError,
    TableSchema,
    TableUnavailableError,
)
from domain.ports.telemetry import NO_TELEMETRY, Telemetry, Work
from domain.ports.unit_of_work import Subject, UnitOfWork, UnitOfWorkFactory
from domain.runs.entities import Run, RunMetrics
from domain.schema_changes import SchemaChange, decisions_of
from domain.schema_versions import SchemaDiff, SchemaVersion
from domain.steps import Step, reached
from domain.tenants import Grants

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """Sizes of a batch, the length of its lease, and how long the first retry of a file waits."""

    max_files: int = 5_000
    max_bytes: int = 512 * 2**20
    lease_seconds: float = 30.0
    retry_base_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A batch in hand, the rows that it takes the place of, and the decided schema changes under which it is loaded."""

    batch: Batch
    files: Sequence[ClaimedFile]
    replaced: Replaced
    decided: Sequence[SchemaChange]


class _NothingToClaimError(Exception):
    """Rolls back the batch that has no files."""


class BatchFileProcessor:
    def __init__(
        self,
        unit_of_work: UnitOfWorkFactory,
        engines: Mapping[EngineType, Engine],
        settings: BatchSettings,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._engines = engines
        self._settings = settings
        self._telemetry = telemetry

    async def process_files(self, run: Run, ingestion: Ingestion, grants: Grants) -> RunMetrics:
        """Load the ingestion's PENDING files, batch by batch, within the run's limits; what was done, in sum.

        A RETRY run takes only those that are assigned to it.

        A bad file is FAILED and the rest goes on. When the engine as a whole fails, the batch in hand is settled, and the
        engine's error passes through. Raises `LeaseLostError` when another worker has taken over.
        """
        done = RunMetrics()
        limit = ingestion.policies.max_files_per_run
        bytes_limit = ingestion.policies.max_bytes_per_run
        bytes_taken = 0
        while (limit is None or done.files_settled < limit) and (bytes_limit is None or bytes_taken < bytes_limit):
            files_left = self._settings.max_files if limit is None else min(self._settings.max_files, limit - done.files_settled)
            bytes_left = self._settings.max_bytes if bytes_limit is None else min(self._settings.max_bytes, bytes_limit - bytes_taken)
            # A file larger than a batch is a batch, and one larger than the run's limit is a run; but a run that has loaded
            # something leaves what would take it past its limit to the next.
            at_least_one = bytes_taken == 0 or bytes_left == self._settings.max_bytes
            claimed = await self._claim(run, ingestion, max_files=files_left, max_bytes=bytes_left, at_least_one=at_least_one)
            if claimed is None:
                break
            reached(Step.CLAIMED)
            bytes_taken += sum(file.size_bytes for file in claimed.files)
            with self._telemetry.during(Work.BATCH, "load", batch_id=str(claimed.batch.id), files=len(claimed.files)):
                done += await self._process_batch(run, ingestion, grants, claimed)
        return done

    async def recover(self, lost: Subject) -> bool:
        """Settle a batch whose worker is silent: finish it when the table has it, release its files when it has not.

        False when there was nothing to do: it is settled, or its lease runs after all. Raises `TableUnavailableError`
        when the table cannot answer; the batch then waits for the next try.
        """
        async with self._unit_of_work(lost.tenant_id) as tx:
            batch = await tx.batches.take_over(lost.id, lease_seconds=self._settings.lease_seconds, only_expired=True)
        if batch is None:
            return False
        await self._settle_unmarked(batch, charge=None)
        return True

    async def settle_abandoned(self, ingestion: Ingestion, *, without_table: bool = False) -> None:
        """Settle the batches that ended runs have left, without waiting for their leases.

        `without_table`: a batch whose table is gone is released, for what is not in the ingestion's table is not loaded. Raises
        `TableUnavailableError` when the table cannot answer, and `LeaseLostError` when somebody else settles one at the same time.
        """
        async with self._unit_of_work(ingestion.tenant_id) as tx:
            abandoned = await tx.batches.get_abandoned(ingestion.id)
        for batch in abandoned:
            async with self._unit_of_work(ingestion.tenant_id) as tx:
                taken = await tx.batches.take_over(batch.id, lease_seconds=self._settings.lease_seconds, only_expired=False)
            if taken is None:
                continue
            try:
                await self._settle_unmarked(taken, charge=None)
            except (TableMissingError, TableReplacedError):
                if not without_table:
                    raise
                async with self._unit_of_work(ingestion.tenant_id) as tx:
                    if await tx.batches.release(taken):
                        await tx.files.release(taken)

    async def _claim(self, run: Run, ingestion: Ingestion, *, max_files: int, max_bytes: int, at_least_one: bool) -> _Claimed | None:
        try:
            async with self._unit_of_work(ingestion.tenant_id) as tx:
                if not await tx.runs.hold_running(run.id):
                    # It has ended, or is to: what is claimed for it now would be nobody's.
                    raise LeaseLostError(f"run {run.id}")
                batch = await tx.batches.open(
                    id=uuid4(),
                    ingestion_id=ingestion.id,
                    run_id=run.id,
                    table_uuid=await tx.ingestions.get_table(ingestion.id),
                    lease_seconds=self._settings.lease_seconds,
                )
                files = await tx.files.claim(
                    batch,
                    max_files=max_files,
                    max_bytes=max_bytes,
                    at_least_one=at_least_one,
                    assigned_to=None if run.lists else run.id,
                )
                if not files:
                    raise _NothingToClaimError
                asks = ingestion.policies.schema_evolution is SchemaEvolution.REQUIRE_APPROVAL
                decided = await tx.schema_changes.get_decided(ingestion.id) if asks else ()
                return _Claimed(batch, files, await _replaced(tx, batch, files), decided)
        except _NothingToClaimError:
            return None

    async def _process_batch(self, run: Run, ingestion: Ingestion, grants: Grants, claimed: _Claimed) -> RunMetrics:
        batch, files, replaced = claimed.batch, claimed.files, claimed.replaced
        order = LoadBatch(
            batch_id=batch.id,
            epoch=batch.epoch,
            ingestion_id=ingestion.id,
            table_uuid=batch.table_uuid,
            source=ingestion.source,
            grants=grants,
            format=ingestion.format,
            destination=ingestion.destination,
            policies=ingestion.policies,
            files=[BatchFile(file.id, file.stored_object, replaced.get(file.path, frozenset())) for file in files],
            decisions=decisions_of(claimed.decided),
        )
        engine = self._engines[ingestion.execution.engine]
        try:
            async with self._held(batch):
                outcome = await engine.load(order, lambda: self._guard(batch))
        except LeaseLostError:
            raise
        except BaseException as error:
            # Cancellation too: whether the commit has happened is the table's to say.
            await asyncio.shield(self._settle_now(batch, charge=_charge(error)))
            raise
        try:
            return await self._mark(claimed, outcome, ingestion.policies)
        except LeaseLostError:
            raise
        except BaseException:
            await asyncio.shield(self._settle_now(batch, charge=None))
            raise

    async def _guard(self, batch: Batch) -> None:
        async with self._unit_of_work(batch.tenant_id) as tx:
            if not await tx.batches.renew_lease(batch, seconds=self._settings.lease_seconds):
                raise LeaseLostError(f"batch {batch.id} at epoch {batch.epoch}")

    @contextlib.asynccontextmanager
    async def _held(self, batch: Batch) -> AsyncIterator[None]:
        """Renews the lease while the block runs. A failing renewal is left to the guard to find."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self._settings.lease_seconds / 3)
                try:
                    await self._guard(batch)
                except Exception as error:
                    log.warning("the lease of batch %s could not be renewed: %r", batch.id, error)

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()
            # Not `await task` with its CancelledError suppressed: that would swallow a cancellation of this task too.
            await asyncio.wait([task])

    async def _mark(self, claimed: _Claimed, outcome: BatchOutcome, policies: Policies) -> RunMetrics:
        batch, files = claimed.batch, claimed.files
        async with self._unit_of_work(batch.tenant_id) as tx:
            await record_table(tx, batch, outcome.table_uuid, outcome.schema_after)
            if outcome.snapshots is not None:
                # Here, for it holds the ingestion's row as well.
                await ask_when_due(tx, batch.ingestion_id, outcome.snapshots)
            loaded = [o for o in outcome.files if o.status is OutcomeStatus.LOADED]
            if loaded and policies.late_after_seconds is not None:
                await tx.ingestions.expect_data(batch.ingestion_id)
            failed = [o for o in outcome.files if o.status is OutcomeStatus.FAILED]
            skipped = [o for o in outcome.files if o.status is OutcomeStatus.SKIPPED]
            needing = [o for o in outcome.files if o.status is OutcomeStatus.NEEDS_APPROVAL]
            if not await tx.batches.commit(batch, snapshot_id=outcome.snapshot_id, files=len(loaded)):
                raise LeaseLostError(f"batch {batch.id} at epoch {batch.epoch}")
            await tx.files.mark_success(batch, loaded, snapshot_id=outcome.snapshot_id)
            told = await hold(tx, batch, files, needing, known=claimed.decided) if needing else []
            held = [o for o in told if o.status is OutcomeStatus.NEEDS_APPROVAL]
            failed += [o for o in told if o.status is OutcomeStatus.FAILED]
            await tx.files.mark_failed(
                batch, failed, max_retries=policies.max_file_retries, retry_base_seconds=self._settings.retry_base_seconds
            )
            await tx.files.mark_skipped(batch, skipped)
            if len(told) < len(needing):
                await tx.files.release(batch)
            await _supersede(tx, batch, files, {outcome.file_id for outcome in [*loaded, *skipped]})
            metrics = measure(files, [*loaded, *failed, *skipped, *held])
            await tx.runs.update_metrics(batch.run_id, metrics)
        reached(Step.MARKED)
        log.info("batch %s: %d files loaded, %d failed; %d rows", batch.id, len(loaded), len(failed), metrics.rows_written)
        self._telemetry.loaded(metrics)
        return metrics

    async def _settle_now(self, batch: Batch, *, charge: str | None) -> None:
        """Something was raised with the batch in hand: find out whether it is committed, and mark it accordingly.

        Raises nothing, for the first error is the one to tell. A batch that cannot be settled now is settled by `recover`,
        once its lease has expired.
        """
        try:
            async with self._unit_of_work(batch.tenant_id) as tx:
                taken = await tx.batches.take_over(batch.id, lease_seconds=self._settings.lease_seconds, only_expired=False)
            if taken is not None:
                await self._settle_unmarked(taken, charge=charge)
        except (TableUnavailableError, LeaseLostError) as error:
            log.warning("batch %s stays open for now: %s", batch.id, error)
        except Exception:
            log.exception("batch %s stays open for now", batch.id)

    async def _settle_unmarked(self, batch: Batch, *, charge: str | None) -> None:
        """`batch` is held at a new epoch. With `charge`, files that are not in the table have FAILED with that message."""
        reached(Step.TAKEN_OVER)
        async with self._unit_of_work(batch.tenant_id) as tx:
            ingestion = await tx.ingestions.get_by_id(batch.ingestion_id)
            files = await tx.files.batch_files(batch.id)
            replaced = await _replaced(tx, batch, files)
        if ingestion is None:
            return
        evidence = await self._ask_table(ingestion, batch, replaced)
        reached(Step.FENCED)
        table = await self._engines[ingestion.execution.engine].table_state(ingestion.destination) if evidence else None
        metrics = RunMetrics()
        async with self._unit_of_work(batch.tenant_id) as tx:
            if evidence is not None:
                if table is not None:
                    await record_table(tx, batch, table.uuid, table.schema)
                loaded = [
                    FileOutcome(file.id, OutcomeStatus.LOADED, rows=evidence.rows_by_path[file.path])
                    for file in files
                    if file.path in evidence.rows_by_path
                ]
                if loaded and ingestion.policies.late_after_seconds is not None:
                    await tx.ingestions.expect_data(batch.ingestion_id)
                if not await tx.batches.commit(batch, snapshot_id=evidence.snapshot_id, files=len(loaded)):
                    raise LeaseLostError(f"batch {batch.id} at epoch {batch.epoch}")
                await tx.files.mark_success(batch, loaded, snapshot_id=evidence.snapshot_id)
                gone = evidence.rows_by_path.keys() | evidence.replaced
                await _supersede(tx, batch, files, {file.id for file in files if file.path in gone})
                metrics = measure(files, loaded)
                await tx.runs.update_metrics(batch.run_id, metrics)
                await tx.files.release(batch)
            else:
                if not await tx.batches.release(batch):
                    raise LeaseLostError(f"batch {batch.id} at epoch {batch.epoch}")
                if charge is None:
                    await tx.files.release(batch)
                else:
                    failed = [FileOutcome(file.id, OutcomeStatus.FAILED, message=charge, transient=True) for file in files]
                    await tx.files.mark_failed(
                        batch, failed, max_retries=ingestion.policies.max_file_retries, retry_base_seconds=self._settings.retry_base_seconds
                    )
                    metrics = measure(files, failed)
                    await tx.runs.update_metrics(batch.run_id, metrics)
        reached(Step.SETTLED)
        self._telemetry.loaded(metrics)

    async def _ask_table(self, ingestion: Ingestion, batch: Batch, replaced: Replaced) -> BatchEvidence | None:
        engine = self._engines[ingestion.execution.engine]
        try:
            return await engine.fence(
                ingestion.destination, table_uuid=batch.table_uuid, batch_id=batch.id, epoch=batch.epoch, replaces=replaced
            )
        except TableMissingError:
            if batch.table_uuid is None:
                # The table is created before the guard is asked, so without a table no append was, or can be, made.
                return None
            raise


def measure(files: Sequence[ClaimedFile], outcomes: Sequence[FileOutcome]) -> RunMetrics:
    """The outcomes as counters; bytes are those of loaded files."""
    sizes = {file.id: file.size_bytes for file in files}
    loaded = [o for o in outcomes if o.status is OutcomeStatus.LOADED]
    return RunMetrics(
        files_processed=len(loaded),
        files_failed=sum(o.status is OutcomeStatus.FAILED for o in outcomes),
        files_skipped=sum(o.status is OutcomeStatus.SKIPPED for o in outcomes),
        files_held=sum(o.status is OutcomeStatus.NEEDS_APPROVAL for o in outcomes),
        rows_written=sum(o.rows for o in loaded),
        rows_skipped=sum(o.rows_skipped for o in loaded),
        rows_rescued=sum(o.rows_rescued for o in loaded),
        bytes_processed=sum(sizes[o.file_id] for o in loaded),
    )


async def _replaced(tx: UnitOfWork, batch: Batch, files: Sequence[ClaimedFile]) -> Replaced:
    return await tx.files.get_replaced(batch) if any(file.replaces for file in files) else NONE_REPLACED


async def _supersede(tx: UnitOfWork, batch: Batch, files: Sequence[ClaimedFile], ids: Set[int]) -> None:
    """Of the files with these ids, the ones that replace earlier versions have done so."""
    replacing = [file.id for file in files if file.replaces and file.id in ids]
    if replacing:
        await tx.files.supersede(batch, replacing)


async def record_table(tx: UnitOfWork, batch: Batch, table_uuid: UUID | None, schema: TableSchema | None) -> None:
    """Remember the table, and its schema if that is new.

    Comes first in its transaction, for it holds the ingestion's row: whoever queues a run takes that row before the run's,
    and in another order the two could wait for each other.
    """
    if table_uuid is not None and table_uuid != batch.table_uuid:
        await tx.ingestions.set_table(batch.ingestion_id, table_uuid)
    if schema is None:
        return
    latest = await tx.schema_versions.latest(batch.ingestion_id)
    diff = SchemaDiff.between(latest.schema if latest else None, schema)
    if diff:
        version = await tx.schema_versions.append(
            SchemaVersion(
                id=0,
                tenant_id=batch.tenant_id,
                ingestion_id=batch.ingestion_id,
                version=latest.version + 1 if latest else 1,
                run_id=batch.run_id,
                schema=schema,
                diff=diff,
                created_at=batch.created_at,
            )
        )
        ingestion = await tx.ingestions.get_by_id(batch.ingestion_id)
        if ingestion is not None:
            await announce(tx, schema_changed(ingestion, version))


def _charge(error: BaseException) -> str | None:
    """What the files of a failed load are charged with, None when it is not theirs.

    An expected error speaks for itself; of another one a person may see no more than its kind.
    """
    if isinstance(error, TableUnavailableError) or not isinstance(error, Exception):
        return None
    return error.message if isinstance(error, DomainError) else f"the engine failed ({type(error).__name__}); the log tells more"
