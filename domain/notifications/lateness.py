"""Data that do not come, told once for each time that they are late.

Data of an ACTIVE ingestion with a schedule and the policy `late_after_seconds` are late when no file has been loaded for that long:
since the last batch that loaded one, or since it became ACTIVE or its schedule or this policy was changed, if that was later. It does
not matter why: nothing came, everything failed, or the schedule's runs did not run. Time is the database's.
"""

from __future__ import annotations

import logging

from domain.clock import Clock
from domain.log_fields import binding
from domain.notifications.announcing import announce
from domain.notifications.events import data_late
from domain.ports.unit_of_work import Directory, Subject, UnitOfWorkFactory

log = logging.getLogger(__name__)


class LatenessService:
    def __init__(self, unit_of_work: UnitOfWorkFactory, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def tell(self, directory: Directory, *, limit: int = 100) -> int:
        """Announce DATA_LATE for the ingestions whose data have become late; how many. The next time comes after data have."""
        told = 0
        for subject in await directory.late_ingestions(limit):
            with binding(tenant=subject.tenant_id):
                try:
                    told += await self._tell(subject)
                except Exception:
                    # One that cannot be told of does not keep the others waiting.
                    log.exception("that data of ingestion %s are late could not be told", subject.id)
        return told

    async def _tell(self, subject: Subject) -> bool:
        async with self._unit_of_work(subject.tenant_id) as tx:
            ingestion = await tx.ingestions.get_by_id(subject.id, for_update=True)
            if ingestion is None or not await tx.ingestions.take_lateness(subject.id):
                return False
            await announce(tx, data_late(ingestion, at=self._clock.now()))
            return True
