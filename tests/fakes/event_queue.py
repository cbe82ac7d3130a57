"""A queue in memory, which passes the same contract as SQS: what was handed out comes again unless it is deleted in time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from domain.ports.event_queue import LONGEST_POSTPONEMENT_SECONDS, RECEIVED_AT_ONCE, QueueMessage, QueueState
from domain.ports.object_store import SourceUnavailableError
from tests.fakes.clock import FakeClock

_HIDDEN_SECONDS = 120


@dataclass(frozen=True)
class _Kept:
    message: QueueMessage
    visible_at: datetime
    handed_out: int = 0


@dataclass
class FakeEventQueue:
    """`dead_after` handings-out a message goes to `dead_letters`; with None there is nowhere to go. `failure` is what every call raises."""

    name: str
    clock: FakeClock = field(default_factory=FakeClock)
    dead_after: int | None = None
    exists: bool = True
    failure: SourceUnavailableError | None = None
    dead_letters: list[QueueMessage] = field(default_factory=list)
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def send(self, body: str) -> str:
        """Put a message in; its id."""
        id = f"message-{next(self._numbers)}"
        self._kept[id] = _Kept(QueueMessage(id, body, ""), self.clock.now())
        return id

    @property
    def bodies(self) -> list[str]:
        """Of all messages that have not been deleted and are no dead letters, hidden or not."""
        return [kept.message.body for kept in self._kept.values()]

    async def state(self) -> QueueState:
        await self._answer()
        waiting = len(self._visible())
        letters = None if self.dead_after is None else len(self.dead_letters)
        return QueueState(f"fake {self.name}", waiting, len(self._kept) - waiting, self.dead_after is not None, letters)

    async def receive(self) -> Sequence[QueueMessage]:
        await self._answer()
        given: list[QueueMessage] = []
        for id in self._visible():
            kept = self._kept[id]
            if self.dead_after is not None and kept.handed_out >= self.dead_after:
                self.dead_letters.append(self._kept.pop(id).message)
            elif len(given) < RECEIVED_AT_ONCE:
                message = replace(kept.message, receipt=f"{id} {kept.handed_out + 1}")
                self._kept[id] = _Kept(message, self._in(_HIDDEN_SECONDS), kept.handed_out + 1)
                given.append(message)
        return given

    async def delete(self, messages: Sequence[QueueMessage]) -> None:
        await self._answer()
        for message in messages:
            if self._is_held(message):
                del self._kept[message.id]

    async def postpone(self, messages: Sequence[QueueMessage], *, seconds: int) -> None:
        await self._answer()
        for message in messages:
            if self._is_held(message):
                until = self._in(min(seconds, LONGEST_POSTPONEMENT_SECONDS))
                self._kept[message.id] = replace(self._kept[message.id], visible_at=until)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if not self.exists:
            raise SourceUnavailableError(SourceUnavailableError.NOT_FOUND, f"there is no queue {self.name}")
        if self.failure is not None:
            raise self.failure

    def _visible(self) -> list[str]:
        return [id for id, kept in self._kept.items() if kept.visible_at <= self.clock.now()]

    def _is_held(self, message: QueueMessage) -> bool:
        kept = self._kept.get(message.id)
        return kept is not None and kept.message.receipt == message.receipt

    def _in(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=seconds)
