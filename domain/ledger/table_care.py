"""Keeping tables quick to read and to commit to."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from domain.ingestions.entities import EngineType, IngestionStatus
from domain.ports.engine import Engine
from domain.ports.unit_of_work import Subject, UnitOfWorkFactory

log = logging.getLogger(__name__)

TENDED_EVERY_SNAPSHOTS = 50
"""A commit's time grows with the table's history."""


def is_due(snapshots: int | None) -> bool:
    """Whether a table that has come to so many snapshots is to be tended."""
    return snapshots is not None and snapshots > 0 and snapshots % TENDED_EVERY_SNAPSHOTS == 0


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
