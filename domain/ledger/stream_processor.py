"""Loading by a stream that keeps its own progress, and the ledger filled from what the table says that the stream has committed.

The table goes ahead and the ledger follows. Each epoch in the table is one batch of the ledger, whose id follows from checkpoint and
epoch: it is recorded once, by whoever comes first, be it the run that has loaded it, the next one, or the recovery of a lost one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4, uuid5

from domain.errors import DomainError, LeaseLostError
from domain.ingestions.entities import EngineType, Ingestion
from domain.ledger.batch_processor import BatchSettings, measure, record_table
from domain.ledger.entities import ClaimedFile, FileStatus
from domain.ledger.table_care import ask_when_due
from domain.ports.engine import FileOutcome, OutcomeStatus, TableUnavailableError
from domain.ports.object_store import ObjectStore, ObjectStores, SourceUnavailableError, StoredObject
from domain.ports.streaming import StreamCommit, StreamedFile, StreamHistory, StreamingEngine, StreamOrder
from domain.ports.telemetry import NO_TELEMETRY, Telemetry, Work
from domain.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from domain.runs.entities import Run, RunMetrics
from domain.states import ACTIVE_RUN
from domain.tenants import Grants

log = logging.getLogger(__name__)

SAMPLED_FILES = 1_000
"""New columns are looked for in so many of the files that wait, the oldest; what others bring beyond is kept in `_rescued_data`."""
BROUGHT_NOTHING = (
    "The stream has brought no row of it: it is blank, it has gone before it was read, or its name or that of a folder begins"
    ' with "_" or ".", which Spark passes over.'
)
EMPTY = "The file is empty."
UNKNOWN_ETAG = "unknown"
"""Of a file that was not listed before it was loaded, and had gone when it was asked for."""
_ASKED_AT_ONCE = 32
_EVERYTHING = 2**62


class StreamProcessor:
    def __init__(
        self,
        unit_of_work: UnitOfWorkFactory,
        engines: Mapping[EngineType, StreamingEngine],
        stores: ObjectStores,
        settings: BatchSettings,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._engines = engines
        self._stores = stores
        self._settings = settings
        self._telemetry = telemetry

    async def process_files(self, run: Run, ingestion: Ingestion, grants: Grants) -> RunMetrics:
        """Have the stream load what has landed, and record it as it goes on; what was recorded, in sum.

        Files that are PENDING when the stream has come to its end have brought nothing, and are SKIPPED. When the stream fails or is
        stopped, what it has committed until then is recorded, and the error passes through. Raises `LeaseLostError` once the run has
        ended.
        """
        done = RunMetrics()

        async def committed() -> None:
            nonlocal done
            done += await self.catch_up(run, ingestion, grants)

        async with self._unit_of_work(run.tenant_id) as tx:
            # A refresh that this run has begun has given it another checkpoint.
            present = await tx.ingestions.get_by_id(ingestion.id)
            samples = await tx.files.get_processed_files(ingestion.id, status=[FileStatus.PENDING], limit=SAMPLED_FILES)
        if present is None:
            raise LeaseLostError(f"run {run.id}")
        order = StreamOrder(
            run_id=run.id,
            source=present.source,
            grants=grants,
            format=present.format,
            destination=present.destination,
            policies=present.policies,
            checkpoint=present.checkpoint_path,
            samples=[file.stored_object for file in samples],
            max_files=self._settings.max_files,
        )
        try:
            with self._telemetry.during(Work.BATCH, "stream") as observation:
                metrics = await self._engines[present.execution.engine].execute(order, committed)
                observation.facts |= dataclasses.asdict(metrics)
        except LeaseLostError:
            raise
        except BaseException:
            # Cancellation too: what is in the table is loaded, whoever has asked to stop.
            await asyncio.shield(self._catch_up_at_last(run, ingestion, grants))
            raise
        done += await self.catch_up(run, ingestion, grants)
        return done + await self._leave_out_the_rest(run, ingestion)

    async def catch_up(self, run: Run, ingestion: Ingestion, grants: Grants) -> RunMetrics:
        """Record what the stream has committed and the ledger does not know yet, under this run; how much.

        May be called at any time, by several at once, and again after a crash. Raises `TableUnavailableError`, `LeaseLostError` once the
        run has ended.
        """
        async with self._unit_of_work(run.tenant_id) as tx:
            present = await tx.ingestions.get_by_id(ingestion.id)
            table_uuid = await tx.ingestions.get_table(ingestion.id)
        if present is None:
            return RunMetrics()
        recording = _Recording(self._unit_of_work, run, present, self._stores.open(present.source, grants))
        engine, destination = self._engines[present.execution.engine], present.destination
        history = await engine.history(destination, table_uuid=table_uuid, checkpoint=present.checkpoint_path)
        unrecorded = await recording.unrecorded(history)
        done = RunMetrics()
        for number, commit in enumerate(unrecorded, start=history.snapshots - len(unrecorded) + 1):
            files = await engine.files_of(destination, table_uuid=history.table_uuid, commit=commit)
            recorded = await recording.record(history, commit, files, snapshots=number)
            log.info("run %s: %d files and %d rows of its stream are recorded", run.id, recorded.files_processed, recorded.rows_written)
            self._telemetry.loaded(recorded)
            done += recorded
        return done

    async def _catch_up_at_last(self, run: Run, ingestion: Ingestion, grants: Grants) -> None:
        """Raises nothing, for the first error is the one to tell. What is not recorded now is recorded by the next run."""
        try:
            await self.catch_up(run, ingestion, grants)
        except (DomainError, LeaseLostError) as error:
            log.warning("what the stream of run %s has committed is not recorded yet: %s", run.id, error)
        except Exception:
            log.exception("what the stream of run %s has committed is not recorded yet", run.id)

    async def _leave_out_the_rest(self, run: Run, ingestion: Ingestion) -> RunMetrics:
        """The stream has seen every file that was listed before it began, and has recorded those of which there are rows."""
        done = RunMetrics()
        while True:
            async with self._unit_of_work(run.tenant_id) as tx:
                await _hold(tx, run, ingestion)
                if not await tx.files.count_pending(ingestion.id, at_most=1):
                    return done
                batch = await tx.batches.open(
                    id=uuid4(),
                    ingestion_id=ingestion.id,
                    run_id=run.id,
                    table_uuid=await tx.ingestions.get_table(ingestion.id),
                    lease_seconds=self._settings.lease_seconds,
                )
                files = await tx.files.claim(batch, max_files=self._settings.max_files, max_bytes=_EVERYTHING)
                skipped = [FileOutcome(file.id, OutcomeStatus.SKIPPED, message=_why_left_out(file)) for file in files]
                await tx.batches.commit(batch, snapshot_id=None, files=0)
                await tx.files.mark_skipped(batch, skipped)
                metrics = measure(files, skipped)
                await tx.runs.update_metrics(run.id, metrics)
            self._telemetry.loaded(metrics)
            done += metrics


class _Recording:
    """Epochs of one ingestion's stream on their way into the ledger, under one run."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, run: Run, ingestion: Ingestion, store: ObjectStore) -> None:
        self._unit_of_work = unit_of_work
        self._run = run
        self._ingestion = ingestion
        self._store = store

    async def unrecorded(self, history: StreamHistory) -> Sequence[StreamCommit]:
        """The commits that the ledger does not know. They are recorded in their order, so what comes before a known one is known.

        Raises `TableUnavailableError` when one before them is known neither to the ledger nor to the table.
        """
        left: list[StreamCommit] = []
        async with self._unit_of_work(self._run.tenant_id) as tx:
            for commit in reversed(history.commits):
                if await tx.batches.get_by_id(self._batch_id(commit.epoch)):
                    break
                left.insert(0, commit)
            first = left[0].epoch if left else 0
            if first > 0 and await tx.batches.get_by_id(self._batch_id(first - 1)) is None:
                table = self._ingestion.destination.key
                raise TableUnavailableError(f"epoch {first - 1} of the stream into {table} expired unrecorded: refresh it (FULL)")
        return left

    async def record(self, history: StreamHistory, commit: StreamCommit, files: Sequence[StreamedFile], *, snapshots: int) -> RunMetrics:
        """Make the commit a batch of the ledger, and its files SUCCESS; `snapshots` is how many the table had with it."""
        unlisted = await self._unlisted(commit, [file.path for file in files])
        run, ingestion, by_path = self._run, self._ingestion, {file.path: file for file in files}
        async with self._unit_of_work(run.tenant_id) as tx:
            present = await _hold(tx, run, ingestion)
            if present.checkpoint_path != ingestion.checkpoint_path or await tx.batches.get_by_id(self._batch_id(commit.epoch)):
                return RunMetrics()
            batch = await tx.batches.open(
                id=self._batch_id(commit.epoch),
                ingestion_id=ingestion.id,
                run_id=run.id,
                table_uuid=await tx.ingestions.get_table(ingestion.id),
                lease_seconds=0,
            )
            await record_table(tx, batch, history.table_uuid, history.schema)
            found = await tx.files.record_discovered(ingestion.id, unlisted)
            taken = await tx.files.claim_paths(batch, by_path.keys())
            loaded = [_loaded(file, by_path[file.path]) for file in taken]
            if loaded and present.policies.late_after_seconds is not None:
                await tx.ingestions.expect_data(ingestion.id)
            await tx.batches.commit(batch, snapshot_id=commit.snapshot_id, files=len(loaded))
            await tx.files.mark_success(batch, loaded, snapshot_id=commit.snapshot_id)
            metrics = dataclasses.replace(measure(taken, loaded), files_discovered=found.new)
            await tx.runs.update_metrics(run.id, metrics)
            await ask_when_due(tx, ingestion.id, snapshots)
        return metrics

    def _batch_id(self, epoch: int) -> UUID:
        return uuid5(self._ingestion.id, f"{self._ingestion.checkpoint_path}#{epoch}")

    async def _unlisted(self, commit: StreamCommit, paths: Sequence[str]) -> Sequence[StoredObject]:
        """The files that have landed after the listing and before the stream, as far as the store still knows them."""
        async with self._unit_of_work(self._run.tenant_id) as tx:
            known = await tx.files.get_known_paths(self._ingestion.id, paths)
        slots = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def look(path: str) -> StoredObject:
            async with slots:
                try:
                    found = await self._store.stat(path)
                except SourceUnavailableError:
                    found = None
            return found or StoredObject(path, 0, UNKNOWN_ETAG, commit.committed_at)

        return await asyncio.gather(*(look(path) for path in paths if path not in known))


async def _hold(tx: UnitOfWork, run: Run, ingestion: Ingestion) -> Ingestion:
    """The ingestion's row, as whoever ends the run takes it: then the run, if it is active, stays so. Raises `LeaseLostError`."""
    present = await tx.ingestions.get_by_id(ingestion.id, for_update=True)
    now = await tx.runs.get_by_id(run.id)
    if present is None or now is None or now.status not in ACTIVE_RUN:
        raise LeaseLostError(f"run {run.id}")
    return present


def _loaded(file: ClaimedFile, streamed: StreamedFile) -> FileOutcome:
    return FileOutcome(file.id, OutcomeStatus.LOADED, rows=streamed.rows, rows_rescued=streamed.rows_rescued)


def _why_left_out(file: ClaimedFile) -> str:
    return BROUGHT_NOTHING if file.size_bytes else EMPTY
