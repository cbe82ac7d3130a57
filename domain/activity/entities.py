"""What happens in a tenant, told as it commits: for dashboards that want to be told and not to ask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class ActivityKind(StrEnum):
    INGESTION_CREATED = "INGESTION_CREATED"
    INGESTION_UPDATED = "INGESTION_UPDATED"
    INGESTION_STATUS_CHANGED = "INGESTION_STATUS_CHANGED"
    INGESTION_RESET_BEGUN = "INGESTION_RESET_BEGUN"
    INGESTION_RESET_DONE = "INGESTION_RESET_DONE"
    INGESTION_DELETED = "INGESTION_DELETED"
    RUN_QUEUED = "RUN_QUEUED"
    RUN_STARTED = "RUN_STARTED"
    RUN_PROGRESSED = "RUN_PROGRESSED"
    RUN_CANCELLING = "RUN_CANCELLING"
    RUN_ENDED = "RUN_ENDED"
    FILES_RETRIED = "FILES_RETRIED"
    FILES_SKIPPED = "FILES_SKIPPED"
    FILES_FORGOTTEN = "FILES_FORGOTTEN"
    SCHEMA_CHANGE_PROPOSED = "SCHEMA_CHANGE_PROPOSED"
    SCHEMA_CHANGE_DECIDED = "SCHEMA_CHANGE_DECIDED"
    SCHEMA_CHANGE_WITHDRAWN = "SCHEMA_CHANGE_WITHDRAWN"
    SCHEMA_CHANGED = "SCHEMA_CHANGED"


@dataclass(frozen=True, slots=True)
class Place:
    """A place among the tenant's events in their order: by transaction, and within one by `id`.

    A place from which somebody begins to follow carries in `seen`, in the database's own words, what was committed by then: of
    that, what the order has behind the place has happened before all the same.
    """

    transaction: int
    id: int
    seen: str | None = None


@dataclass(frozen=True, slots=True)
class ActivityEvent:
    """That something happened, and to what: the present state of it is read where it is kept.

    `transaction` numbers the transaction that brought it. The ingestion and the run may be gone by now.
    """

    id: int
    tenant_id: UUID
    transaction: int
    at: datetime
    kind: ActivityKind
    ingestion_id: UUID
    run_id: UUID | None

    @property
    def place(self) -> Place:
        """Where to go on after it."""
        return Place(self.transaction, self.id)
