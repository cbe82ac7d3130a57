"""What a transaction has done, gathered until it commits."""

from __future__ import annotations

from uuid import UUID

from domain.activity.entities import ActivityKind
from domain.runs.entities import RunStatus

Note = tuple[ActivityKind, UUID, UUID | None]
"""What happened, to which ingestion and, where there is one, to which run of it."""


class ActivityNotes:
    """One for a unit of work. Repositories note what they change; the unit of work stores the notes with its last statement."""

    def __init__(self) -> None:
        self._notes: dict[Note, None] = {}

    def add(self, kind: ActivityKind, ingestion_id: UUID, run_id: UUID | None = None) -> None:
        """The same happening again in one transaction is one event."""
        self._notes[kind, ingestion_id, run_id] = None

    def taken(self) -> list[Note]:
        """In the order in which they were noted first."""
        return list(self._notes)


def kind_of_run(status: RunStatus) -> ActivityKind:
    """What a run's coming into the status is called."""
    match status:
        case RunStatus.QUEUED:
            return ActivityKind.RUN_QUEUED
        case RunStatus.RUNNING:
            return ActivityKind.RUN_STARTED
        case RunStatus.CANCELLING:
            return ActivityKind.RUN_CANCELLING
    return ActivityKind.RUN_ENDED
