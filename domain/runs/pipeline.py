"""A run from start to end: prepare, discover, claim, load, mark, complete.

The stages are methods, so that an orchestrator may put itself around each of them; `execute` calls them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from uuid import UUID

from domain.clock import Clock
from domain.errors import ConflictError, DomainError, LeaseLostError, NotFoundError
from domain.ingestions.entities import ExecutionMode, Ingestion, IngestionStatus, SchemaEvolution
from domain.ingestions.refresh import RefreshService
from domain.ingestions.resets import ResetService
from domain.ledger.batch_processor import BatchFileProcessor
from domain.ledger.discovery import FileDiscoveryService
from domain.ledger.stepwise import stepwise
from domain.ledger.stream_processor import StreamProcessor
from domain.log_fields import binding
from domain.notifications.announcing import announce
from domain.notifications.events import ingestion_failed, run_ended
from domain.ports.telemetry import NO_TELEMETRY, Outcome, Recovered, Telemetry, Work
from domain.ports.unit_of_work import Directory, Subject, Topic, UnitOfWork, UnitOfWorkFactory
from domain.runs.entities import RefreshMode, Run, RunMetrics, RunStatus
from domain.runs.service import queue, retry_of
from domain.steps import Step, reached
from domain.tenants import Grants

log = logging.getLogger(__name__)

COUNT_AT_MOST = 1_000_000
"""Beyond this many waiting files a run's progress is measured against this many."""


class Cut(Enum):
    """Why a run ended before its time; it is retried by itself."""

    LOST = "its worker was not heard of any more"
    STOPPED = "its worker was asked to stop"


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """`failures_until_error` runs that fail one after the other put the ingestion into ERROR.

    A run whose worker was lost is retried by itself, and that retry too, until it has `lost_retries` behind it: what kills its worker each
    time is not to kill them for ever.
    """

    lease_seconds: float = 30.0
    failures_until_error: int = 5
    lost_retries: int = 3


@dataclass(frozen=True, slots=True)
class FileState:
    """`waiting` files are to be loaded. `done` are those of the paths asked about that are loaded or left out already."""

    waiting: int
    done: frozenset[str]


class Stages(Protocol):
    """What `execute` calls, in this order: a pipeline's own methods, or an orchestrator's that call those in turn."""

    async def start(self, subject: Subject) -> tuple[Run, Ingestion, Grants]: ...

    async def discover(self, run: Run, ingestion: Ingestion, grants: Grants) -> Sequence[str]: ...

    async def check(self, run: Run, ingestion: Ingestion, paths: Sequence[str]) -> FileState: ...

    async def process(self, run: Run, ingestion: Ingestion, grants: Grants) -> RunMetrics: ...

    async def complete(self, run: Run) -> Run: ...

    async def fail(self, run: Run, message: str) -> Run | None: ...


class RunLostError(Exception):
    """The run is no longer this worker's: its lease has expired, or it has ended elsewhere."""


_OUTCOMES = {RunStatus.FAILED: Outcome.ERROR, RunStatus.CANCELLED: Outcome.REFUSED}

P = ParamSpec("P")
T = TypeVar("T")


def stage(method: Callable[Concatenate[RunPipeline, P], Awaitable[T]]) -> Callable[Concatenate[RunPipeline, P], Coroutine[Any, Any, T]]:
    """A stage is measured, under its method's name."""

    @functools.wraps(method)
    async def measured(self: RunPipeline, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._telemetry.during(Work.STAGE, method.__name__):
            return await method(self, *args, **kwargs)

    return measured


class RunPipeline:
    def __init__(
        self,
        unit_of_work: UnitOfWorkFactory,
        directory: Directory,
        discovery: FileDiscoveryService,
        processor: BatchFileProcessor,
        streams: StreamProcessor,
        refreshes: RefreshService,
        resets: ResetService,
        clock: Clock,
        settings: PipelineSettings,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._directory = directory
        self._discovery = discovery
        self._processor = processor
        self._streams = streams
        self._refreshes = refreshes
        self._resets = resets
        self._clock = clock
        self._settings = settings
        self._telemetry = telemetry

    async def execute(self, subject: Subject, stages: Stages | None = None) -> Run | None:
        """Take a QUEUED run to its end; the run as it ended. None when it was not this worker's to take or to end.

        What goes wrong becomes the run's FAILED and its message. A run that was asked to stop ends CANCELLED. A cancelled
        task ends the run FAILED, or CANCELLED if that was asked for. In each case its batch is settled first.
        """
        with self._telemetry.during(Work.RUN, "execute", tenant=str(subject.tenant_id), run_id=str(subject.id)) as observation:
            ended = await self._execute(subject, stages or self)
            if ended is not None:
                observation.facts |= {"ingestion_id": str(ended.ingestion_id), "trigger": ended.trigger.value, "status": ended.status.value}
                observation.outcome = _OUTCOMES.get(ended.status)
        return ended

    async def _execute(self, subject: Subject, stages: Stages) -> Run | None:
        try:
            run, ingestion, grants = await stages.start(subject)
        except (ConflictError, NotFoundError):
            return None
        try:
            message = await self._work(run, ingestion, grants, stages)
            return await (stages.complete(run) if message is None else stages.fail(run, message))
        except (ConflictError, NotFoundError, LeaseLostError, RunLostError) as error:
            log.warning("run %s is no longer this worker's: %s", run.id, error)
            # Allowed when it was asked to stop, and only then: a run whose lease was lost is not ours to end.
            with contextlib.suppress(ConflictError, NotFoundError):
                return await self._end(run, RunStatus.CANCELLED, None)
            return None
        except asyncio.CancelledError:
            await asyncio.shield(self.stop(run, "the server was stopped while the run was under way", cut=Cut.STOPPED))
            raise

    async def _work(self, run: Run, ingestion: Ingestion, grants: Grants, stages: Stages) -> str | None:
        """Prepare, discover, check and process; what went wrong, for a person, or None."""
        limit = asyncio.timeout(ingestion.policies.timeout_seconds)
        try:
            async with self._held(run), limit:
                await self.prepare(run, ingestion, grants)
                if run.refresh is None or run.refresh.load:
                    listed = await stages.discover(run, ingestion, grants)
                    if (await stages.check(run, ingestion, listed)).waiting:
                        await stages.process(run, ingestion, grants)
        except (LeaseLostError, RunLostError):
            raise
        except Exception as error:
            # Not every TimeoutError is the run's: connections have time limits too.
            if limit.expired():
                return f"the run took longer than its limit of {ingestion.policies.timeout_seconds} seconds"
            if isinstance(error, DomainError):
                return error.message
            log.exception("run %s failed", run.id)
            return f"internal error; the log tells more under run {run.id}"
        return None

    @stage
    async def start(self, subject: Subject) -> tuple[Run, Ingestion, Grants]:
        """QUEUED -> RUNNING, with a lease. Raises `ConflictError`, `NotFoundError`."""
        tenant = await self._directory.tenant(subject.tenant_id)
        async with self._unit_of_work(subject.tenant_id) as tx:
            run = await tx.runs.update_status(
                subject.id, RunStatus.RUNNING, at=self._clock.now(), lease_seconds=self._settings.lease_seconds
            )
            ingestion = await tx.ingestions.get_by_id(run.ingestion_id)
        if ingestion is None or tenant is None:
            raise NotFoundError("ingestion")
        reached(Step.STARTED)
        log.info("run %s of ingestion %s began", run.id, ingestion.id)
        return run, ingestion, tenant.grants

    @stage
    async def prepare(self, run: Run, ingestion: Ingestion, grants: Grants) -> None:
        """Begin the refresh, if the run is one; and do what an earlier refresh or clear has left to do before anything is loaded.

        Before all, record what a stream has committed under earlier runs, and nobody has recorded; but for a FULL refresh, after which
        nothing of it is left.
        """
        full = run.refresh is not None and run.refresh.mode is RefreshMode.FULL
        if ingestion.execution.mode is ExecutionMode.STREAMING and not full:
            await self._streams.catch_up(run, ingestion, grants)
        if run.refresh is not None:
            await self._refreshes.begin(run, ingestion)
        if run.refresh is not None or ingestion.reset is not None:
            await self._resets.finish(Subject(run.tenant_id, ingestion.id))

    @stage
    async def discover(self, run: Run, ingestion: Ingestion, grants: Grants) -> Sequence[str]:
        """Enter what has landed into the ledger; the first paths that were listed. None by a run that does not list."""
        if not run.lists:
            return ()
        listing = await self._discovery.discover(ingestion, grants, run)
        log.info("run %s: %d files were found, %d of them new, %d changed", run.id, listing.files, listing.found.new, listing.found.changed)
        return listing.first

    @stage
    async def check(self, run: Run, ingestion: Ingestion, paths: Sequence[str]) -> FileState:
        """Requeue failures whose retry is due, and count what waits; and say which of the paths are done.

        A run that does not list is assigned what the run that it retries has left unloaded, and nothing else waits for it. Files that
        were held are looked at again when the table has got other columns since or their change is decided, and all of them when nobody
        is to be asked any more. Files are changed a few at a time: what a worker that was lost has changed is as good as before.
        First the batches that earlier runs have left are settled, for their files are neither loaded nor waiting. Raises
        `TableUnavailableError` when the table cannot say which.
        """
        # Somebody else may be settling them: then what comes of their files is for the next run.
        with contextlib.suppress(LeaseLostError):
            await self._processor.settle_abandoned(ingestion)
        await self._make_wait(run, ingestion)
        async with self._unit_of_work(run.tenant_id) as tx:
            done = await tx.files.get_processed_file_paths(ingestion.id, paths) if paths else set()
            limit = min(COUNT_AT_MOST, ingestion.policies.max_files_per_run or COUNT_AT_MOST)
            waiting = await tx.files.count_pending(ingestion.id, at_most=limit, assigned_to=None if run.lists else run.id)
            await tx.runs.update_metrics(run.id, RunMetrics(), files_total=waiting)
        reached(Step.DISCOVERED)
        log.info("run %s: %d files wait", run.id, waiting)
        return FileState(waiting, frozenset(done))

    async def _make_wait(self, run: Run, ingestion: Ingestion) -> None:
        async def requeue(*, after: int, limit: int) -> Sequence[int]:
            retries = ingestion.policies.max_file_retries
            async with self._unit_of_work(run.tenant_id) as tx:
                return await tx.files.requeue_due_failures(ingestion.id, max_retries=retries, after=after, limit=limit)

        async def release(*, after: int, limit: int) -> Sequence[int]:
            asks = ingestion.policies.schema_evolution is SchemaEvolution.REQUIRE_APPROVAL
            async with self._unit_of_work(run.tenant_id) as tx:
                return await tx.files.release_held(ingestion.id, outdated=asks, after=after, limit=limit)

        async def assign(of_run: UUID, *, after: int, limit: int) -> Sequence[int]:
            async with self._unit_of_work(run.tenant_id) as tx:
                # Or another run has them assigned by now, for this one was lost.
                if not await tx.runs.hold_running(run.id):
                    raise LeaseLostError(f"run {run.id}")
                return await tx.files.assign_unloaded(ingestion.id, of_run=of_run, to_run=run.id, after=after, limit=limit)

        if run.lists:
            await stepwise(requeue)
            await stepwise(release)
        elif run.retry_of_id is not None:
            await stepwise(functools.partial(assign, run.retry_of_id))

    @stage
    async def process(self, run: Run, ingestion: Ingestion, grants: Grants) -> RunMetrics:
        """Load what waits."""
        streaming = ingestion.execution.mode is ExecutionMode.STREAMING
        done = await (self._streams if streaming else self._processor).process_files(run, ingestion, grants)
        reached(Step.PROCESSED)
        return done

    @stage
    async def complete(self, run: Run) -> Run:
        """RUNNING -> SUCCESS, PARTIAL, FAILED (no file could be loaded) or NO_NEW_FILES, by what was counted."""
        async with self._unit_of_work(run.tenant_id) as tx:
            counted = await tx.runs.get_by_id(run.id)
        if counted is None:
            raise NotFoundError("run")
        status, message = verdict(counted.metrics)
        if status is RunStatus.NO_NEW_FILES and counted.refresh is not None:
            # It has done what it was made for.
            status = RunStatus.SUCCESS
        return await self._end(run, status, message)

    @stage
    async def fail(self, run: Run, message: str, *, cut: Cut | None = None) -> Run | None:
        """-> FAILED with the message; None when the run has ended already. It is retried by itself when it was cut."""
        try:
            return await self._end(run, RunStatus.FAILED, message, cut=cut)
        except (ConflictError, NotFoundError):
            return None

    @stage
    async def stop(self, run: Run, message: str, *, cut: Cut | None = None) -> Run | None:
        """-> CANCELLED when that was asked for, else as `fail` does."""
        try:
            return await self._end(run, RunStatus.CANCELLED, None, cut=cut)
        except (ConflictError, NotFoundError):
            return await self.fail(run, message, cut=cut)

    async def recover_lost(self, limit: int = 100) -> int:
        """Settle the batches and end the runs whose workers are silent, and retry those runs; how many of both.

        What cannot be settled now does not keep the others waiting, however many: its turn comes again when another lease has expired.
        A worker that comes back in that time has its run still, and goes on with it.
        """
        recovered = 0
        for subject in await self._directory.lost_batches(limit):
            with binding(tenant=subject.tenant_id):
                try:
                    recovered += self._counted(Recovered.BATCH, await self._processor.recover(subject))
                except (DomainError, LeaseLostError) as error:
                    log.warning("batch %s cannot be settled yet: %s", subject.id, error)
                except Exception:
                    log.exception("batch %s cannot be settled yet", subject.id)
        for subject in await self._directory.lost_runs(limit):
            with binding(tenant=subject.tenant_id, run_id=subject.id):
                try:
                    recovered += self._counted(Recovered.RUN, await self._end_lost(subject))
                except Exception:
                    log.exception("run %s cannot be ended yet", subject.id)
                    await self._postpone(subject)
        return recovered

    async def _postpone(self, lost: Subject) -> None:
        try:
            await self._directory.postpone_lost_run(lost, seconds=self._settings.lease_seconds)
        except Exception:
            log.exception("run %s stays among the first to be ended", lost.id)

    def _counted(self, what: Recovered, done: bool) -> bool:
        if done:
            self._telemetry.recovered(what)
        return done

    async def _end_lost(self, subject: Subject) -> bool:
        async with self._unit_of_work(subject.tenant_id) as tx:
            run = await tx.runs.get_by_id(subject.id)
            ingestion = await tx.ingestions.get_by_id(run.ingestion_id) if run else None
        if run is None:
            return False
        if ingestion is not None and ingestion.execution.mode is ExecutionMode.STREAMING:
            await self._record_streamed(run, ingestion)
        return await self.stop(run, "the worker was lost; another run loads what it has left", cut=Cut.LOST) is not None

    async def _record_streamed(self, run: Run, ingestion: Ingestion) -> None:
        """What the lost worker's stream has committed, as far as it can be told now: the next run tells the rest."""
        tenant = await self._directory.tenant(run.tenant_id)
        if tenant is None:
            return
        try:
            await self._streams.catch_up(run, ingestion, tenant.grants)
        except (DomainError, LeaseLostError) as error:
            log.warning("what the stream of run %s has committed is not recorded yet: %s", run.id, error)

    async def _end(self, run: Run, status: RunStatus, message: str | None, *, cut: Cut | None = None) -> Run:
        async with self._unit_of_work(run.tenant_id) as tx:
            now = self._clock.now()
            # The ingestion's row before the run's, as whoever queues a run takes them: else the two could wait for each other.
            ingestion = await tx.ingestions.get_by_id(run.ingestion_id, for_update=True)
            ended = await tx.runs.update_status(run.id, status, at=now, error_message=message)
            await tx.schema_changes.withdraw_needless(run.ingestion_id)
            if ingestion is not None:
                if event := run_ended(ingestion, ended, at=now):
                    await announce(tx, event)
                # That a server is stopped says nothing about its runs.
                failures = ingestion.consecutive_failures if cut is Cut.STOPPED else _failures_in_a_row(ingestion, status)
                await tx.ingestions.update_last_run(ingestion.id, ended.id, now, consecutive_failures=failures)
                if failures >= self._settings.failures_until_error and ingestion.status is IngestionStatus.ACTIVE:
                    await tx.ingestions.update_status(ingestion.id, IngestionStatus.ERROR, next_due_at=None)
                    await tx.outbox.add(Topic.INGESTION, ingestion.id)
                    await announce(tx, ingestion_failed(ingestion, ended, failures=failures, at=now))
                elif cut and status is RunStatus.FAILED:
                    await self._retry_cut(tx, ingestion, ended, cut)
            if cut:
                # An orchestrator may still hold what executed it.
                await tx.outbox.add(Topic.RUN, run.id)
        reached(Step.ENDED)
        log.info("run %s ended %s%s", run.id, status, f": {message}" if message else "")
        self._telemetry.ended(ended)
        return ended

    async def _retry_cut(self, tx: UnitOfWork, ingestion: Ingestion, run: Run, cut: Cut) -> None:
        """Unless nobody wants it run any more, or it has lost too many workers. A refresh that did not come to its listing begins again."""
        given_up = cut is Cut.LOST and run.retry_count >= self._settings.lost_retries
        if given_up or ingestion.status not in (IngestionStatus.DRAFT, IngestionStatus.ACTIVE):
            return
        retry = retry_of(run, at=self._clock.now())
        if run.refresh is not None and retry.lists:
            retry = dataclasses.replace(retry, trigger=run.trigger, refresh=run.refresh)
        if ingestion.execution.mode is ExecutionMode.STREAMING:
            # A stream takes whatever has landed, so that has to be listed.
            retry = dataclasses.replace(retry, lists=True)
        await queue(tx, retry)

    @contextlib.asynccontextmanager
    async def _held(self, run: Run) -> AsyncIterator[None]:
        """Renews the run's lease while the block runs; the block is cancelled, with `RunLostError`, when it is lost."""
        main = asyncio.current_task()
        lost = False

        async def renew() -> None:
            nonlocal lost
            while True:
                await asyncio.sleep(self._settings.lease_seconds / 3)
                try:
                    async with self._unit_of_work(run.tenant_id) as tx:
                        status = await tx.runs.renew_lease(run.id, seconds=self._settings.lease_seconds)
                except Exception as error:
                    log.warning("the lease of run %s could not be renewed: %r", run.id, error)
                    continue
                if status is not RunStatus.RUNNING and main is not None:
                    lost = True
                    main.cancel()
                    return

        task = asyncio.create_task(renew())
        try:
            yield
        except asyncio.CancelledError:
            if lost and main is not None and main.uncancel() == 0:
                raise RunLostError(str(run.id)) from None
            raise
        finally:
            task.cancel()
            # Not `await task` with its CancelledError suppressed: that would swallow a cancellation of this task too.
            await asyncio.wait([task])


def _failures_in_a_row(ingestion: Ingestion, ended: RunStatus) -> int:
    match ended:
        case RunStatus.FAILED:
            return ingestion.consecutive_failures + 1
        case RunStatus.CANCELLED:
            return ingestion.consecutive_failures
    return 0


def verdict(metrics: RunMetrics) -> tuple[RunStatus, str | None]:
    """How a run that came to its end has ended, and what to say about it."""
    settled, failed = metrics.files_settled, metrics.files_failed
    if settled == 0:
        return RunStatus.NO_NEW_FILES, None
    problems = [f"{failed} of {settled} files failed; each file says why"] if failed else []
    if metrics.files_held:
        problems.append(f"{metrics.files_held} of {settled} files wait for schema changes to be approved")
    if not problems:
        return RunStatus.SUCCESS, None
    return (RunStatus.FAILED if failed == settled else RunStatus.PARTIAL), "; ".join(problems)
