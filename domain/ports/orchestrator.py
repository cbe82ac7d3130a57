"""Who executes runs: the port to the orchestrators."""

from __future__ import annotations

from typing import Protocol

from domain.ports.unit_of_work import Subject


class Orchestrator(Protocol):
    """Called from the outbox, so each call may come again, and must then do no harm.

    Raises `UnavailableError` when it cannot take the call now; it will be called again.
    """

    @property
    def fires_schedules(self) -> bool:
        """Whether schedules fire outside the database; the database's own are left alone then."""
        ...

    async def reconcile_run(self, run: Subject) -> bool:
        """Make the run's execution be what its stored status asks for: started when QUEUED, stopped when CANCELLING or ended.

        True when that will outlast this process; False to be asked again soon.
        """
        ...

    async def reconcile_ingestion(self, ingestion: Subject) -> None:
        """Make schedules held outside the database be what the stored ingestion asks for."""
        ...

    async def reconcile_all(self) -> None:
        """Compare everything that is held outside the database with what is stored, and mend what differs.

        For what no outbox entry tells of: changes by other hands, workers that died, an orchestrator that lost its memory.
        """
        ...

    async def work(self) -> None:
        """Execute runs in this process until cancelled, or return at once when others do."""
        ...

    async def version(self) -> str:
        """What it is, in a line."""
        ...
