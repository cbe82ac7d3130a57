"""Which queued run is executed next, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Sequence

from domain.ports.unit_of_work import Directory, Subject
from domain.runs.entities import RunLimits


class RunQueue:
    """One queue for all processes that work on a database. What is taken is held for a lease, and has to have begun by then."""

    def __init__(self, directory: Directory, limits: RunLimits, *, lease_seconds: float) -> None:
        self._directory = directory
        self._limits = limits
        self._lease_seconds = lease_seconds

    async def take(self, at_most: int) -> Sequence[Subject]:
        """QUEUED runs for this process to execute: of the tenant that has fewest in hand first, of one tenant the oldest."""
        return await self._directory.take_runs(at_most, self._limits, lease_seconds=self._lease_seconds)

    async def admit(self, run: Subject) -> bool:
        """The same for a run that somebody else has chosen; False when it is not QUEUED, or there is no room for it now."""
        return bool(await self._directory.take_runs(1, self._limits, lease_seconds=self._lease_seconds, only=run))

    async def asked_to_stop(self, runs: Sequence[Subject]) -> Sequence[Subject]:
        """Those of the runs that are CANCELLING."""
        return await self._directory.cancelling_runs(runs)
