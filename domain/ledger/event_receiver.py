"""Notifications of a store, received: what is behind each is looked at and handed on, and only then is its message deleted.

A message says that an object was there once. What it is now, the store says: so neither the order of messages nor how often one comes
makes a difference, and what is handed on is what a listing would have shown.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import TypeVar

from domain.clock import Clock
from domain.ingestions.entities import Ingestion
from domain.ledger.globs import relative_path
from domain.ledger.source_filters import SourceFilter, source_filters
from domain.ledger.store_events import StoreEvents, read_events
from domain.ports.event_queue import LONGEST_POSTPONEMENT_SECONDS, EventQueue, QueueMessage
from domain.ports.object_store import ObjectStore, ObjectStores, SourceUnavailableError, StoredObject
from domain.ports.telemetry import EventOutcome, Telemetry
from domain.tenants import Grants
from domain.text import readable

log = logging.getLogger(__name__)

MOST_MESSAGES = 10_000
MOST_TIME = timedelta(seconds=60)
"""What one run receives at most; the next one goes on. So what has come first is loaded before the last has been looked at."""
_QUOTED_CHARACTERS = 200

T = TypeVar("T")

Enter = Callable[[Sequence[StoredObject]], Awaitable[None]]
"""Writes objects to the ledger. When it returns, that has been committed."""


class QueueUnavailableError(Exception):
    """The queue does not serve now, unlike the store; `message` says why."""

    def __init__(self, error: SourceUnavailableError) -> None:
        super().__init__(error.message)
        self.message = error.message


@dataclass(frozen=True, slots=True)
class _Found:
    """What came of a look at a path: with the object to hand on, or with when the object will be old enough."""

    outcome: EventOutcome
    object: StoredObject | None = None
    taken_at: datetime | None = None


class EventReceiver:
    def __init__(self, stores: ObjectStores, clock: Clock, telemetry: Telemetry) -> None:
        self._stores = stores
        self._clock = clock
        self._telemetry = telemetry

    async def receive(self, ingestion: Ingestion, grants: Grants, enter: Enter) -> None:
        """Receive until the queue is empty, or a run's share has been received.

        Raises `QueueUnavailableError`, and `SourceUnavailableError` when the store does not serve; what was not deleted by then comes
        again.
        """
        queue = self._stores.open_queue(ingestion.source, grants)
        store = self._stores.open(ingestion.source, grants)
        received, until = 0, self._clock.now() + MOST_TIME
        outcomes: Counter[EventOutcome] = Counter()
        try:
            while received < MOST_MESSAGES and self._clock.now() < until:
                messages = await _asked(queue.receive())
                if not messages:
                    break
                received += len(messages)
                await self._take(ingestion, queue, store, messages, enter, outcomes)
        finally:
            some = +outcomes
            for outcome, count in some.items():
                self._telemetry.events(outcome, count)
            if received:
                told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(some.items()))
                log.info("ingestion %s: %d messages were received: %s", ingestion.id, received, told or "nothing was done with them")

    async def _take(
        self,
        ingestion: Ingestion,
        queue: EventQueue,
        store: ObjectStore,
        messages: Sequence[QueueMessage],
        enter: Enter,
        outcomes: Counter[EventOutcome],
    ) -> None:
        read = [read_events(message.body) for message in messages]
        paths = list({path: None for events in read for path in events.paths})
        filters = source_filters(ingestion.source, now=self._clock.now())
        looks = await asyncio.gather(*(self._look(ingestion, store, filters, path) for path in paths))
        found = dict(zip(paths, looks, strict=True))
        if objects := [look.object for look in looks if look.object is not None]:
            await enter(objects)
        outcomes.update(found[path].outcome for events in read for path in events.paths)
        outcomes[EventOutcome.OTHER] += sum(events.others for events in read)
        outcomes[EventOutcome.TEST] += sum(events.tests for events in read)
        outcomes[EventOutcome.NOT_UNDERSTOOD] += sum(events.problem is not None for events in read)
        await self._settle(ingestion, queue, list(zip(messages, read, strict=True)), found)

    async def _settle(
        self, ingestion: Ingestion, queue: EventQueue, read: Sequence[tuple[QueueMessage, StoreEvents]], found: dict[str, _Found]
    ) -> None:
        """Delete what is done with, put off what is too early, and leave what nobody could do anything with to the queue's own policy."""
        done: list[QueueMessage] = []
        early: dict[int, list[QueueMessage]] = {}
        strange: list[tuple[QueueMessage, str]] = []
        for message, events in read:
            looks = [found[path] for path in events.paths]
            wait = max((look.taken_at for look in looks if look.taken_at is not None), default=None)
            if events.problem is not None:
                strange.append((message, events.problem))
            elif any(look.outcome is EventOutcome.REFUSED for look in looks):
                log.warning("ingestion %s: message %s names an object that may not be looked at", ingestion.id, message.id)
            elif wait is not None:
                early.setdefault(self._seconds_until(wait), []).append(message)
            else:
                done.append(message)
        if strange:
            done += await self._to_be_deleted(ingestion, queue, strange)
        if done:
            await _asked(queue.delete(done))
        for seconds, messages in early.items():
            await _asked(queue.postpone(messages, seconds=seconds))

    async def _look(self, ingestion: Ingestion, store: ObjectStore, filters: Sequence[SourceFilter], path: str) -> _Found:
        if relative_path(ingestion.source.path, path) == path:
            return _Found(EventOutcome.ELSEWHERE)
        try:
            object = await store.stat(path)
        except SourceUnavailableError:
            # One object that may not be looked at keeps no other waiting; a store that does not answer is another matter.
            await store.check_access()
            return _Found(EventOutcome.REFUSED)
        if object is None:
            return _Found(EventOutcome.GONE)
        against = [filter for filter in filters if not filter.passes(object)]
        if any(filter.passes_at is None for filter in against):
            return _Found(EventOutcome.FILTERED)
        moments = [filter.passes_at(object) for filter in against if filter.passes_at is not None]
        return _Found(EventOutcome.EARLY, taken_at=max(moments)) if moments else _Found(EventOutcome.TAKEN, object)

    def _seconds_until(self, moment: datetime) -> int:
        """In whole seconds, so that what is early by the same time is put off together."""
        return max(1, min(LONGEST_POSTPONEMENT_SECONDS, ceil((moment - self._clock.now()).total_seconds())))

    async def _to_be_deleted(
        self, ingestion: Ingestion, queue: EventQueue, strange: Sequence[tuple[QueueMessage, str]]
    ) -> Sequence[QueueMessage]:
        """Those of the messages that nobody understands which are to be deleted, for no dead letter queue would take them."""
        kept = (await _asked(queue.state())).redrives
        for message, problem in strange:
            if kept:
                log.warning("ingestion %s: message %s is left to become a dead letter: %s", ingestion.id, message.id, problem)
            else:
                said = readable(message.body, limit=_QUOTED_CHARACTERS)
                log.warning("ingestion %s: message %s, which nobody keeps, is deleted: %s: %r", ingestion.id, message.id, problem, said)
        return () if kept else [message for message, _ in strange]


async def _asked(question: Awaitable[T]) -> T:
    try:
        return await question
    except SourceUnavailableError as error:
        raise QueueUnavailableError(error) from error
