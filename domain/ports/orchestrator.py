"""Who executes runs: the port to the orchestrators."""

from __future__ import annotations

from typing import Protocol

from domain.ports.unit_of_work import Subject


class Orchestrator(Protocol):
    """Called from the outbox, so each call may come again, and must then do no harm.

    Raises `UnavailableError` when it cannot take the call now; it will be called again.
    """

    async def reconcile_run(self, run: Subject) -> bool:
        """Make the run's execution be what its stored status asks for: started when QUEUED, stopped when CANCELLING.

        True when that will outlast this process; False to be asked again soon.
        """
        ...

    async def reconcile_ingestion(self, ingestion: Subject) -> None:
        """Make schedules held outside the database be what the stored ingestion asks for."""
        ...
