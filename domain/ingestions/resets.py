"""Removing what was loaded: the part of a refresh, a clear or a deletion that lies outside the database.

What is to be done is decided in one transaction, with the ingestion (`Ingestion.reset`), and done afterwards, by the next run or
by the background work, whichever comes first, or by both at once. Nothing is loaded before it is done. Each step looks again
whether it is still asked for, so a worker that comes late removes nothing of what has been loaded since.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from domain.errors import LeaseLostError
from domain.ingestions.entities import EngineType, Ingestion, IngestionStatus, Reset
from domain.ledger.batch_processor import BatchFileProcessor
from domain.ledger.entities import FileStatus
from domain.ledger.stepwise import stepwise
from domain.ports.engine import Engine
from domain.ports.repositories import FILES_AT_ONCE, FileSelection
from domain.ports.unit_of_work import Subject, UnitOfWork, UnitOfWorkFactory
from domain.relations import ProcessedFileFilter
from domain.steps import Step, reached

log = logging.getLogger(__name__)


class ResetService:
    def __init__(self, unit_of_work: UnitOfWorkFactory, engines: Mapping[EngineType, Engine], processor: BatchFileProcessor) -> None:
        self._unit_of_work = unit_of_work
        self._engines = engines
        self._processor = processor

    async def finish(self, subject: Subject) -> None:
        """Do what the ingestion's reset still asks for; then delete the ingestion, if it is being deleted.

        May be called at any time, by several at once, and again after a crash. Raises `TableUnavailableError` when the table
        cannot be reached or is another one: the reset then waits for the next call.
        """
        while (ingestion := await self._present(subject)) is not None and ingestion.reset is not None:
            await self._processor.settle_abandoned(ingestion, without_table=True)
            try:
                await self._do(ingestion, ingestion.reset)
            except LeaseLostError:
                # Somebody else has finished it, or another has taken its place: look again.
                continue
            async with self._unit_of_work(ingestion.tenant_id) as tx:
                if ingestion.status is IngestionStatus.DELETING:
                    await tx.ingestions.delete(ingestion.id)
                else:
                    await tx.ingestions.finish_reset(ingestion.id, ingestion.reset.id)
            reached(Step.RESET_DONE)

    async def _do(self, ingestion: Ingestion, reset: Reset) -> None:
        engine, destination = self._engines[ingestion.execution.engine], ingestion.destination
        if reset.drop_table is not None and await engine.drop_table(destination, table_uuid=reset.drop_table):
            reached(Step.TABLE_DROPPED)
            log.info("ingestion %s: the table was dropped", ingestion.id)
        if reset.remove_rows:
            rows = await engine.remove_rows(
                destination,
                table_uuid=await self._table(ingestion),
                path_prefix=reset.path_prefix or ingestion.source.path,
                guard=lambda: self._still_asked_for(ingestion, reset),
            )
            reached(Step.ROWS_REMOVED)
            log.info("ingestion %s: %d rows were removed from the table", ingestion.id, rows)
        while reset.forget_files and await self._forget_some(ingestion, reset):
            pass
        if reset.requeue_files:
            await self._requeue(ingestion, reset)

    async def _forget_some(self, ingestion: Ingestion, reset: Reset) -> bool:
        """Whether there may be more."""
        async with self._held(ingestion, reset) as tx:
            forgotten = await tx.files.delete_by_ingestion(ingestion.id, path_prefix=reset.path_prefix, limit=FILES_AT_ONCE)
        reached(Step.FORGOTTEN)
        return forgotten == FILES_AT_ONCE

    async def _requeue(self, ingestion: Ingestion, reset: Reset) -> None:
        failed = FileSelection(ingestion_id=ingestion.id, filter=ProcessedFileFilter(status=(FileStatus.FAILED,)))

        async def release(*, after: int, limit: int) -> Sequence[int]:
            async with self._held(ingestion, reset) as tx:
                return await tx.files.release_held(ingestion.id, after=after, limit=limit)

        async def requeue(*, after: int, limit: int) -> Sequence[int]:
            async with self._held(ingestion, reset) as tx:
                return await tx.files.requeue(failed, after=after, limit=limit)

        await stepwise(release)
        await stepwise(requeue)

    @asynccontextmanager
    async def _held(self, ingestion: Ingestion, reset: Reset) -> AsyncIterator[UnitOfWork]:
        """A transaction that the reset is still asked for in."""
        async with self._unit_of_work(ingestion.tenant_id) as tx:
            present = await tx.ingestions.get_by_id(ingestion.id, for_update=True)
            if present is None or present.reset != reset:
                raise LeaseLostError(f"reset {reset.id}")
            yield tx

    async def _still_asked_for(self, ingestion: Ingestion, reset: Reset) -> None:
        present = await self._present(Subject(ingestion.tenant_id, ingestion.id))
        if present is None or present.reset != reset:
            raise LeaseLostError(f"reset {reset.id}")

    async def _present(self, subject: Subject) -> Ingestion | None:
        async with self._unit_of_work(subject.tenant_id) as tx:
            return await tx.ingestions.get_by_id(subject.id)

    async def _table(self, ingestion: Ingestion) -> UUID | None:
        async with self._unit_of_work(ingestion.tenant_id) as tx:
            return await tx.ingestions.get_table(ingestion.id)
