"""Following activity and runs: read, tell, and wait to be woken.

Nothing is pushed. A follower holds a place, and reads a bounded page behind it when the last page has been taken: a follower
that takes nothing costs nothing, however much happens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from domain.activity.entities import ActivityEvent, Place
from domain.errors import NotFoundError, UnavailableError, ValidationError
from domain.ingestions.entities import Ingestion
from domain.ports.activity import ActivityLog, Listener, Notifications
from domain.ports.reader import Reader
from domain.runs.entities import Run

RESUMABLE_SECONDS = 7 * 86_400.0
"""How old an event may be whose place somebody goes on from."""

KEPT_SECONDS = RESUMABLE_SECONDS + 3_600.0
"""How old an event becomes: longer, so that behind a place to go on from there is nothing missing."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """How many events a page has, and how often to look: not again within `pause_seconds`, and then twice as long each time up
    to `longest_pause_seconds` while something cannot be told; after `patience_seconds` though nothing was heard."""

    page: int = 100
    pause_seconds: float = 0.05
    longest_pause_seconds: float = 2.0
    patience_seconds: float = 30.0


class ActivityFeed:
    def __init__(
        self,
        logs: Callable[[UUID], ActivityLog],
        readers: Callable[[UUID], Reader],
        notifications: Notifications,
        settings: FeedSettings | None = None,
    ) -> None:
        self._logs = logs
        self._readers = readers
        self._notifications = notifications
        self._settings = settings or FeedSettings()

    async def activity(
        self, tenant_id: UUID, *, ingestion_id: UUID | None = None, after: Place | None = None
    ) -> AsyncGenerator[Sequence[ActivityEvent], None]:
        """What happens from now on, or has happened since the event at `after`, in pages.

        Raises `NotFoundError` for the ingestion, and `ValidationError` when the event at `after` is not kept any more: what came
        next may not be, either.
        """
        log = self._logs(tenant_id)
        if ingestion_id is not None and await self._readers(tenant_id).by_ids(Ingestion, [ingestion_id]) == [None]:
            raise NotFoundError("ingestion")
        if after is None:
            after = await log.now()
        elif not await log.holds(after, younger_than_seconds=RESUMABLE_SECONDS):
            raise ValidationError.of("after", message="this event is not kept any more: read the present state, and subscribe without it")
        return self._pages(tenant_id, log, after, ingestion_id)

    async def run(self, tenant_id: UUID, run_id: UUID) -> AsyncGenerator[Run, None]:
        """The run as it is, and then as it becomes, until it has ended. Raises `NotFoundError`."""
        if await self._readers(tenant_id).by_ids(Run, [run_id]) == [None]:
            raise NotFoundError("run")
        return self._states(tenant_id, run_id)

    async def _pages(
        self, tenant_id: UUID, log: ActivityLog, place: Place, ingestion_id: UUID | None
    ) -> AsyncGenerator[Sequence[ActivityEvent], None]:
        with self._notifications.listen(tenant_id) as listener:
            pace = _Pace(listener, self._settings)
            while True:
                try:
                    look = await log.after(place, limit=self._settings.page, ingestion_id=ingestion_id)
                except UnavailableError:
                    await pace.again()
                    continue
                place = look.place
                if look.events:
                    yield look.events
                if len(look.events) == self._settings.page:
                    continue
                await (pace.again() if look.unsettled else pace.woken())

    async def _states(self, tenant_id: UUID, run_id: UUID) -> AsyncGenerator[Run, None]:
        told: Run | None = None
        with self._notifications.listen(tenant_id) as listener:
            pace = _Pace(listener, self._settings)
            while True:
                try:
                    [run] = await self._readers(tenant_id).by_ids(Run, [run_id])
                except UnavailableError:
                    await pace.again()
                    continue
                if run is None:
                    return
                # A lease that is renewed is no news.
                state = replace(run, lease_expires_at=None)
                if state != told:
                    told = state
                    yield run
                if run.ended_at is not None:
                    return
                await pace.woken()


class _Pace:
    """When a follower looks: at a bounded rate, whatever wakes it."""

    def __init__(self, listener: Listener, settings: FeedSettings) -> None:
        self._listener = listener
        self._settings = settings
        self._pause = settings.pause_seconds

    async def woken(self) -> None:
        """Return when there may be something new."""
        self._pause = self._settings.pause_seconds
        await self._wait(self._settings.patience_seconds)

    async def again(self) -> None:
        """Return when what could not be told may be told by now."""
        pause, self._pause = self._pause, min(2 * self._pause, self._settings.longest_pause_seconds)
        await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        looked_at = time.monotonic()
        await self._listener.wait(seconds)
        await asyncio.sleep(max(0.0, looked_at + self._settings.pause_seconds - time.monotonic()))
