"""Keeping tables quick to read and to commit to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from uuid import UUID

from domain.ingestions.entities import EngineType, IngestionStatus
from domain.ports.engine import Engine
from domain.ports.unit_of_work import Subject, Topic, UnitOfWork, UnitOfWorkFactory

log = logging.getLogger(__name__)

TENDED_EVERY_SNAPSHOTS = 50
"""A commit's time grows with the table's history."""


def is_due(before: int | None, snapshots: int) -> bool:
    """Whether a table is to be tended that has come to so many snapshots, from those `before` that were seen last (None: never).

    It has come to a multiple, or past one: fences, merges and removals add snapshots that nobody looks at.
    """
    return snapshots // TENDED_EVERY_SNAPSHOTS > (snapshots - 1 if before is None else before) // TENDED_EVERY_SNAPSHOTS


async def ask_when_due(tx: UnitOfWork, ingestion_id: UUID, snapshots: int) -> None:
    """Have the table tended if it is time, now that it has so many snapshots. Holds the ingestion's row."""
    if is_due(await tx.ingestions.see_snapshots(ingestion_id, snapshots), snapshots):
        await tx.outbox.add(Topic.TABLE, ingestion_id)


class TableCareService:
    def __init__(self, unit_of_work: UnitOfWorkFactory, engines: Mapping[EngineType, Engine]) -> None:
        self._unit_of_work = unit_of_work
        self._engines = engines

    async def tend(self, subject: Subject) -> None:
        """Merge an ingestion's small data files and expire old snapshots; runs may go on meanwhile.

        Nothing happens to a table that is about to go. Raises `TableUnavailableError`.
        """
        async with self._unit_of_work(subject.tenant_id) as tx:
            ingestion = await tx.ingestions.get_by_id(subject.id)
        if ingestion is None or ingestion.status is IngestionStatus.DELETING or ingestion.reset is not None:
            return
        await self._engines[ingestion.execution.engine].optimize(ingestion.destination)
        log.info("ingestion %s: the table was tended", ingestion.id)
