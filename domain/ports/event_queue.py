"""The queue through which a store tells of its objects: at least once, in no order, and anything may stand in a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

RECEIVED_AT_ONCE = 100
LONGEST_POSTPONEMENT_SECONDS = 42_000
"""SQS hides a message for twelve hours at most, from when it was handed out."""


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """`body` is as somebody has sent it; `receipt` is opaque, and good until the message is handed out again."""

    id: str
    body: str
    receipt: str


@dataclass(frozen=True, slots=True)
class QueueState:
    """How a queue stands, by about these numbers.

    `id` tells it from all other queues, whatever name or credential led there. `waiting` messages can be received; `hidden` ones were
    handed out or postponed. `redrives`: messages that are handed out too often go to another queue, where `dead_letters` of them lie;
    None when there is no such queue, or its messages may not be counted.
    """

    id: str
    waiting: int
    hidden: int
    redrives: bool = False
    dead_letters: int | None = None


class EventQueue(Protocol):
    """One queue, opened with a source's credential. Every method raises `SourceUnavailableError` when the queue does not serve."""

    async def state(self) -> QueueState:
        """Ask and receive nothing: no message is hidden by it, nor counted as handed out. Bounded to some seconds."""
        ...

    async def receive(self) -> Sequence[QueueMessage]:
        """Some messages that wait, at most `RECEIVED_AT_ONCE`; none when none waits.

        They are hidden for two minutes, and then handed out again unless they were deleted.
        """
        ...

    async def delete(self, messages: Sequence[QueueMessage]) -> None:
        """They do not come again; but one that could not be deleted does, and one that is on its way to somebody else may."""
        ...

    async def postpone(self, messages: Sequence[QueueMessage], *, seconds: int) -> None:
        """Have them handed out again in so many seconds, at most `LONGEST_POSTPONEMENT_SECONDS`, or in two minutes if that fails."""
        ...
