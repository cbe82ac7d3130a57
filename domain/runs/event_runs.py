"""Runs that nobody has asked for: because a store has sent notifications, or the source is to be listed again.

Queues are looked at, and not received from: that is the run's to do, of which an ingestion has one at a time. However many messages have
come by then, they make one run, and those that come while it is under way the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from domain.clock import Clock
from domain.errors import ConflictError, DomainError
from domain.ingestions.entities import EventQueueState, Ingestion, IngestionStatus
from domain.log_fields import binding
from domain.ports.object_store import ObjectStores
from domain.ports.unit_of_work import Directory, UnitOfWork, UnitOfWorkFactory
from domain.runs.entities import RunTrigger
from domain.runs.service import new_run, queue

log = logging.getLogger(__name__)

_PAGE = 100
_AT_ONCE = 16
_PATIENCE_SECONDS = 10.0
_STATE_KEPT = timedelta(seconds=60)
"""A state that has not changed is stored again after this long, to say that it still holds."""
_FIRST_PAUSE = timedelta(seconds=60)
_LONGEST_PAUSE = timedelta(hours=1)


class EventRunService:
    """`rest_seconds` lie between the end of a run and the next one that is begun here: what comes together is loaded together."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, stores: ObjectStores, clock: Clock, *, rest_seconds: float) -> None:
        self._unit_of_work = unit_of_work
        self._stores = stores
        self._clock = clock
        self._rest = timedelta(seconds=rest_seconds)

    async def begin_runs(self, directory: Directory) -> int:
        """Look at the queue of each ACTIVE ingestion that has one, and queue an EVENT run where there is something to do; how many."""
        begun, after = 0, None
        while page := await directory.listening_ingestions(_PAGE, after=after):
            begun += await self._look_at(directory, page)
            after = page[-1].id
        return begun

    async def _look_at(self, directory: Directory, page: Sequence[Ingestion]) -> int:
        places = asyncio.Semaphore(_AT_ONCE)

        async def look(ingestion: Ingestion) -> bool:
            async with places:
                with binding(tenant=ingestion.tenant_id):
                    try:
                        return await self._begin(directory, ingestion)
                    except Exception:
                        # One that cannot be looked at does not keep the others waiting.
                        log.exception("the queue of ingestion %s could not be looked at", ingestion.id)
                        return False

        return sum(await asyncio.gather(*map(look, page)))

    async def _begin(self, directory: Directory, seen: Ingestion) -> bool:
        state = await self._state(directory, seen)
        async with self._unit_of_work(seen.tenant_id) as tx:
            ingestion = await tx.ingestions.get_by_id(seen.id, for_update=True)
            if ingestion is None or ingestion.status is not IngestionStatus.ACTIVE:
                return False
            if _is_news(state, ingestion.event_queue):
                await tx.ingestions.set_event_queue(ingestion.id, state)
            return await self._queued(tx, ingestion, state)

    async def _queued(self, tx: UnitOfWork, ingestion: Ingestion, state: EventQueueState) -> bool:
        now = self._clock.now()
        if now < _rests_until(ingestion, self._rest) or await tx.runs.get_active(ingestion.id) is not None:
            return False
        listing_due_at = ingestion.listing_due_at
        due = (state.waiting > 0 and state.problem is None) or (listing_due_at is not None and listing_due_at <= now)
        # What a run has left, and what another was to load when its worker was lost: no message tells of it any more.
        if not due and not await tx.files.any_waiting(ingestion.id, max_retries=ingestion.policies.max_file_retries):
            return False
        try:
            await queue(tx, new_run(ingestion.tenant_id, ingestion.id, RunTrigger.EVENT, at=now))
        except ConflictError:
            return False
        return True

    async def _state(self, directory: Directory, ingestion: Ingestion) -> EventQueueState:
        """How the queue stands now. What a person should look at is logged when it begins, and not again at each look."""
        known = ingestion.event_queue or EventQueueState(self._clock.now())
        try:
            state = await self._asked(directory, ingestion)
        except (DomainError, TimeoutError) as error:
            problem = error.message if isinstance(error, DomainError) else f"no answer within {_PATIENCE_SECONDS:.0f} seconds"
            if known.problem is None:
                log.warning("ingestion %s: its queue cannot be looked at: %s", ingestion.id, problem)
            return EventQueueState(self._clock.now(), known.waiting, known.hidden, known.dead_letters, problem)
        if (state.dead_letters or 0) > (known.dead_letters or 0):
            log.warning(
                "ingestion %s: %d notifications are dead letters, of which nobody could make anything", ingestion.id, state.dead_letters
            )
        return state

    async def _asked(self, directory: Directory, ingestion: Ingestion) -> EventQueueState:
        tenant = await directory.tenant(ingestion.tenant_id)
        if tenant is None:
            return EventQueueState(self._clock.now())
        async with asyncio.timeout(_PATIENCE_SECONDS):
            told = await self._stores.open_queue(ingestion.source, tenant.grants).state()
        return EventQueueState(self._clock.now(), told.waiting, told.hidden, told.dead_letters)


def _is_news(state: EventQueueState, known: EventQueueState | None) -> bool:
    if known is None or state.looked_at - known.looked_at >= _STATE_KEPT:
        return True
    return (state.waiting, state.hidden, state.dead_letters, state.problem) != (
        known.waiting,
        known.hidden,
        known.dead_letters,
        known.problem,
    )


def _rests_until(ingestion: Ingestion, rest: timedelta) -> datetime:
    """After failures a run is not begun again at once, for what is wrong may last: the pause doubles from one failure to the next."""
    if ingestion.last_run_at is None:
        return ingestion.created_at
    if not ingestion.consecutive_failures:
        return ingestion.last_run_at + rest
    doubled: timedelta = _FIRST_PAUSE * 2 ** min(ingestion.consecutive_failures - 1, 10)
    return ingestion.last_run_at + max(rest, min(_LONGEST_PAUSE, doubled))
