"""Following what happens: events in the order of their commits, and being woken when there are some."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from domain.activity.entities import ActivityEvent, Place


@dataclass(frozen=True, slots=True)
class Look:
    """`place` is where to go on. `unsettled`: something newer is stored that cannot be told yet, for a transaction that may
    come before it is still under way; look again shortly."""

    events: Sequence[ActivityEvent]
    place: Place
    unsettled: bool


class ActivityLog(Protocol):
    """Bound to one tenant. Each call is one statement. Raises `UnavailableError` without a database."""

    async def now(self) -> Place:
        """Behind everything that has been committed, and before everything that has not."""
        ...

    async def holds(self, place: Place, *, younger_than_seconds: float) -> bool:
        """Whether the place is that of an event of the tenant that is kept, and younger than that."""
        ...

    async def after(self, place: Place, *, limit: int, ingestion_id: UUID | None = None) -> Look:
        """The first events behind the place, at most `limit`; of one ingestion, if given.

        Whoever goes on from place to place sees each event once, whenever its transaction commits.
        """
        ...


class Listener(Protocol):
    async def wait(self, seconds: float) -> None:
        """Return once something has happened since the last return, or may have unnoticed, or after `seconds`."""
        ...


class Notifications(Protocol):
    def listen(self, tenant_id: UUID) -> AbstractContextManager[Listener]:
        """Hear of the tenant's commits while the block runs. Their number does not matter: a thousand wake once."""
        ...
