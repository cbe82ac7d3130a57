"""Runs as tasks of the processes that work on the database: the orchestrator of the embedded default.

The queue is the database. Schedules need nothing here: a firing is a queued run, made by whoever does the background work.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Protocol

from domain.log_fields import bind
from domain.ports.unit_of_work import Subject
from domain.runs.queue import RunQueue

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0


class Executor(Protocol):
    """Takes a queued run to its end."""

    async def execute(self, subject: Subject) -> object: ...


class InProcessOrchestrator:
    fires_schedules = False

    def __init__(self, executor: Executor, queue: RunQueue, *, max_concurrent_runs: int) -> None:
        self._executor = executor
        self._queue = queue
        self._slots = max_concurrent_runs
        self._tasks: dict[Subject, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()

    async def reconcile_run(self, run: Subject) -> bool:
        """Have the queue looked at soon: by this process at once, by others within their tick."""
        self._woken.set()
        return True

    async def reconcile_ingestion(self, ingestion: Subject) -> None:
        """Nothing is held outside the database."""

    async def reconcile_all(self) -> None:
        """Nothing is held outside the database, and runs of lost workers are found by their leases."""

    async def version(self) -> str:
        """What it is, and what it has in hand."""
        return f"in process, {len(self._tasks)} runs in hand"

    async def work(self) -> None:
        """Take runs while there are free slots, and stop those of which that is asked.

        When it is cancelled, each run ends FAILED with its batch settled, or is recovered when its lease has expired.
        """
        try:
            reached = True
            while True:
                try:
                    await self._stop_cancelled()
                    await self._take()
                    reached = True
                except Exception as error:
                    if reached:
                        log.warning("the queue of runs cannot be looked at: %r; it is tried again", error)
                    reached = False
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self._woken.wait()
                self._woken.clear()
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self) -> None:
        free = self._slots - len(self._tasks)
        for run in await self._queue.take(free) if free else ():
            task = asyncio.create_task(self._execute(run), name=f"run {run.id}")
            self._tasks[run] = task
            task.add_done_callback(partial(self._done, run))

    def _done(self, run: Subject, _: object) -> None:
        del self._tasks[run]
        self._woken.set()

    async def _stop_cancelled(self) -> None:
        for run in await self._queue.asked_to_stop(list(self._tasks)) if self._tasks else ():
            task = self._tasks.get(run)
            # Once: it settles what it has in hand then, which takes its time and is not to be cut short.
            if task is not None and not task.cancelling():
                task.cancel()

    async def _execute(self, run: Subject) -> None:
        bind(operation="execute", operation_kind="run", tenant=run.tenant_id, run_id=run.id)
        try:
            await self._executor.execute(run)
        except Exception:
            # The run's lease expires, and whoever finds it settles it.
            log.exception("run %s was left", run.id)
