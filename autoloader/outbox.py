"""The outbox, emptied: each topic in a lane of its own, so that what takes long keeps nothing else waiting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from domain.errors import DomainError
from domain.log_fields import binding
from domain.ports.unit_of_work import Directory, OutboxEntry, Subject, Topic

log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 2.0
_LONGEST_POSTPONEMENT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Lane:
    """What is done with the subjects of a topic, and with how many of them at once.

    `look` makes what is outside the database be what the database says of the subject. False: it is to look again soon; a number:
    in so many seconds.
    """

    look: Callable[[Subject], Awaitable[bool | float | None]]
    at_once: int


class OutboxWork:
    """`free` is called each time that there is room for more of a lane. What was taken is due again after `visible_after_seconds`."""

    def __init__(
        self, directory: Directory, lanes: Mapping[Topic, Lane], free: Callable[[], None], *, visible_after_seconds: float
    ) -> None:
        self._directory = directory
        self._lanes = lanes
        self._free = free
        self._visible_after_seconds = visible_after_seconds
        self._under_way: dict[Topic, dict[Subject, asyncio.Task[None]]] = {topic: {} for topic in lanes}

    async def start(self) -> None:
        """Begin with what is due, as far as there is room for it in its lane."""
        for topic, lane in self._lanes.items():
            under_way = self._under_way[topic]
            while room := lane.at_once - len(under_way):
                entries = await self._directory.take_outbox(room, topic=topic, visible_after_seconds=self._visible_after_seconds)
                for entry in entries:
                    if entry.subject in under_way:
                        # One look at a time: the one that has begun may have read what was before this entry.
                        await self._directory.postpone_outbox(entry, seconds=_LOOK_AGAIN_SECONDS, error=None)
                    else:
                        self._begin(entry, lane)
                if not entries:
                    break

    async def stop(self) -> None:
        """Cancel what is under way. It is due again a lease's time after it was taken, here or in another process."""
        tasks = [task for under_way in self._under_way.values() for task in under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, entry: OutboxEntry, lane: Lane) -> None:
        under_way = self._under_way[entry.topic]
        task = asyncio.create_task(self._handle(entry, lane), name=f"outbox {entry.topic} {entry.subject.id}")
        under_way[entry.subject] = task

        def done(_: asyncio.Task[None]) -> None:
            del under_way[entry.subject]
            self._free()

        task.add_done_callback(done)

    async def _handle(self, entry: OutboxEntry, lane: Lane) -> None:
        run_id = entry.subject.id if entry.topic is Topic.RUN else None
        operation = f"reconcile{entry.topic.value.title()}"
        with binding(operation=operation, operation_kind="outbox", tenant=entry.subject.tenant_id, run_id=run_id):
            try:
                await self._look(entry, lane)
            except Exception as error:
                # It was not said to be done, so it comes again.
                log.warning("outbox entry %s %s could not be put back: %r", entry.topic, entry.subject.id, error)

    async def _look(self, entry: OutboxEntry, lane: Lane) -> None:
        try:
            settled = await lane.look(entry.subject)
        except Exception as error:
            if not isinstance(error, DomainError):
                log.exception("outbox entry %s %s", entry.topic, entry.subject.id)
            wait = min(_LONGEST_POSTPONEMENT_SECONDS, 2.0 ** min(entry.attempts + 1, 10))
            await self._directory.postpone_outbox(entry, seconds=wait, error=str(error))
            return
        if settled is False:
            await self._directory.postpone_outbox(entry, seconds=_LOOK_AGAIN_SECONDS, error=None)
        elif isinstance(settled, float):
            await self._directory.postpone_outbox(entry, seconds=settled, error=None)
        else:
            await self._directory.finish_outbox(entry)
