"""When each key was used last, gathered in memory and written now and then, so that no request waits for it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.clock import Clock
from domain.ports.unit_of_work import Directory


class KeyUsage:
    """Holds a moment per key in use, no more."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._used: dict[UUID, datetime] = {}

    def note(self, api_key_id: UUID) -> None:
        self._used[api_key_id] = self._clock.now()

    async def flush(self) -> None:
        """Write what was noted since the last flush; what could not be written is kept for the next."""
        noted, self._used = self._used, {}
        if not noted:
            return
        try:
            await self._directory.record_key_use(noted)
        except BaseException:
            self._used = noted | self._used
            raise
