"""Runs as tasks of this very process: the orchestrator of the embedded default.

Schedules need nothing here: a firing is a queued run, made from the database by whoever does the background work.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from domain.errors import UnavailableError
from domain.log_fields import bind
from domain.ports.unit_of_work import Subject, UnitOfWorkFactory
from domain.runs.entities import RunStatus

log = logging.getLogger(__name__)


class Executor(Protocol):
    """Takes a queued run to its end."""

    async def execute(self, subject: Subject) -> object: ...


class InProcessOrchestrator:
    fires_schedules = False

    def __init__(self, executor: Executor, unit_of_work: UnitOfWorkFactory, *, max_concurrent_runs: int) -> None:
        self._executor = executor
        self._unit_of_work = unit_of_work
        self._slots = asyncio.Semaphore(max_concurrent_runs)
        self._tasks: dict[Subject, asyncio.Task[None]] = {}
        self._closing = False

    async def reconcile_run(self, run: Subject) -> bool:
        """Start the run unless it has been, stop it if that is asked; True once it is no longer QUEUED.

        For a queue in memory dies with the process, and a worker elsewhere sees by its lease that its run is to stop.
        """
        if self._closing:
            raise UnavailableError("this process is stopping")
        async with self._unit_of_work(run.tenant_id) as tx:
            stored = await tx.runs.get_by_id(run.id)
        if stored is None or stored.status is not RunStatus.QUEUED:
            if stored is not None and stored.status is RunStatus.CANCELLING and run in self._tasks:
                self._tasks[run].cancel()
            return True
        if run not in self._tasks:
            task = asyncio.create_task(self._execute(run), name=f"run {run.id}")
            self._tasks[run] = task
            task.add_done_callback(lambda _: self._tasks.pop(run, None))
        return False

    async def reconcile_ingestion(self, ingestion: Subject) -> None:
        """Nothing is held outside the database."""

    async def reconcile_all(self) -> None:
        """Nothing is held outside the database, and runs of lost workers are found by their leases."""

    async def version(self) -> str:
        """What it is, and what it has in hand."""
        return f"in process, {len(self._tasks)} runs in hand"

    async def close(self) -> None:
        """Stop what runs; each run ends FAILED with its batch settled, or is recovered when its lease has expired."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _execute(self, run: Subject) -> None:
        async with self._slots:
            bind(operation="execute", operation_kind="run", tenant=run.tenant_id, run_id=run.id)
            try:
                await self._executor.execute(run)
            except Exception:
                # The run's lease expires, and whoever finds it settles it.
                log.exception("run %s was left", run.id)
