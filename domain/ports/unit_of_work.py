"""One transaction, and the repositories that see the world through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from domain.ingestions.entities import Ingestion
from domain.ports.access import ApiKeyRepository, AuditTrail
from domain.ports.repositories import (
    BatchRepository,
    IngestionRepository,
    ProcessedFileRepository,
    RunRepository,
    SchemaChangeRepository,
    SchemaVersionRepository,
)
from domain.ports.webhooks import WebhookRepository
from domain.runs.entities import RunLimits
from domain.tenants import Principal, Role, Tenant


class Topic(StrEnum):
    """What an outbox row asks to have looked at again: the row carries no more than whose and which."""

    RUN = "RUN"
    INGESTION = "INGESTION"
    TABLE = "TABLE"
    """Named by the ingestion that it belongs to."""
    DELIVERY = "DELIVERY"
    """Of an event to a webhook."""


class Outbox(Protocol):
    async def add(self, topic: Topic, subject_id: UUID) -> None:
        """Have the subject reconciled once this transaction has committed, and until that has succeeded.

        A subject that waits already is not there twice: it is due at once, again.
        """
        ...


class IdempotencyKeys(Protocol):
    async def claim(self, operation: str, key: str, fingerprint: str, subject_id: UUID) -> UUID | None:
        """None when the key is new, and now stands for `subject_id`; else the id that it stands for.

        Waits for a concurrent transaction that has claimed the same key. Raises `ConflictError`
        (IDEMPOTENCY_KEY_REUSED) when the key was used with another `fingerprint` (a digest of the input).
        """
        ...

    async def take_over(self, operation: str, key: str, from_subject: UUID, subject_id: UUID) -> bool:
        """Have the key, as if it were new, stand for `subject_id`; False when it does not stand for `from_subject` (any more).

        Waits for a concurrent transaction that takes the same key over.
        """
        ...


class UnitOfWork(Protocol):
    """Bound to one tenant: no repository of it sees or touches another tenant's rows."""

    @property
    def tenant_id(self) -> UUID: ...

    @property
    def ingestions(self) -> IngestionRepository: ...

    @property
    def runs(self) -> RunRepository: ...

    @property
    def files(self) -> ProcessedFileRepository: ...

    @property
    def batches(self) -> BatchRepository: ...

    @property
    def schema_versions(self) -> SchemaVersionRepository: ...

    @property
    def schema_changes(self) -> SchemaChangeRepository: ...

    @property
    def outbox(self) -> Outbox: ...

    @property
    def idempotency_keys(self) -> IdempotencyKeys: ...

    @property
    def api_keys(self) -> ApiKeyRepository: ...

    @property
    def audit(self) -> AuditTrail: ...

    @property
    def webhooks(self) -> WebhookRepository: ...


class UnitOfWorkFactory(Protocol):
    def __call__(self, tenant_id: UUID) -> AbstractAsyncContextManager[UnitOfWork]:
        """Commits at the end of the block, rolls back when an exception leaves it."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """Something of some tenant."""

    tenant_id: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """`attempts` counts the tries that have failed since the subject was last added; `revision` tells this adding from later ones."""

    id: int
    topic: Topic
    subject: Subject
    attempts: int
    revision: int


class Directory(Protocol):
    """What must be known before a tenant is, or across all tenants: credentials, and the chores of background work.

    Each call is a transaction of its own.
    """

    async def principal_by_key(self, prefix: str, digest: bytes) -> Principal | None:
        """Whose API key has this public prefix and this SHA-256 digest; None when it is unknown, revoked or expired."""
        ...

    async def record_key_use(self, used: Mapping[UUID, datetime]) -> None:
        """Remember when API keys were used last: the later of what is known and what is given."""
        ...

    async def tenant(self, tenant_id: UUID) -> Tenant | None: ...

    async def tenant_by_name(self, name: str) -> Tenant | None: ...

    async def ensure_tenant(self, tenant: Tenant) -> Tenant:
        """Create the tenant, or give the one of that name these grants."""
        ...

    async def ensure_api_key(self, tenant_id: UUID, *, name: str, prefix: str, digest: bytes, role: Role) -> None:
        """Store a key's digest; nothing happens when the prefix is already known."""
        ...

    async def due_ingestions(self, now: datetime, limit: int) -> Sequence[Ingestion]:
        """ACTIVE ingestions whose schedule has fired by `now`, the longest due first."""
        ...

    async def listening_ingestions(self, limit: int, *, after: UUID | None = None) -> Sequence[Ingestion]:
        """ACTIVE ingestions that have a queue, by id, at most `limit` after the one with id `after`."""
        ...

    async def ingestions(self, limit: int, *, after: UUID | None = None) -> Sequence[Ingestion]:
        """All tenants' ingestions by id, at most `limit` after the one with id `after`."""
        ...

    async def waiting_runs(self, limit: int, *, queued_for_seconds: float) -> Sequence[Subject]:
        """QUEUED and CANCELLING runs that were queued so long ago on the database's clock, the oldest first."""
        ...

    async def late_ingestions(self, limit: int) -> Sequence[Subject]:
        """ACTIVE ingestions whose data are late on the database's clock, and of which nobody has taken that, the latest first."""
        ...

    async def take_runs(self, limit: int, limits: RunLimits, *, lease_seconds: float, only: Subject | None = None) -> Sequence[Subject]:
        """Give QUEUED runs that nobody has in hand a lease, and say which, the first of them first; none beyond the limits.

        A tenant's turn comes by how many runs it has in hand, and of its runs the oldest comes first. One is in hand from when it
        is taken until it has ended, or until it has not begun and its lease has expired. With `only`, that run or none is taken.
        """
        ...

    async def cancelling_runs(self, of: Sequence[Subject]) -> Sequence[Subject]:
        """Those of the runs that are CANCELLING."""
        ...

    async def lost_runs(self, limit: int) -> Sequence[Subject]:
        """Runs that have begun, and whose lease has expired on the database's clock; the longest expired first."""
        ...

    async def postpone_lost_run(self, run: Subject, *, seconds: float) -> None:
        """Have the run, if it is lost, be lost again `seconds` from now: until then the others have their turn."""
        ...

    async def lost_batches(self, limit: int) -> Sequence[Subject]:
        """CLAIMED batches whose lease has expired on the database's clock; the longest expired first."""
        ...

    async def take_outbox(self, limit: int, *, topic: Topic | None = None, visible_after_seconds: float) -> Sequence[OutboxEntry]:
        """Take due entries, of one topic or of all, oldest first; an entry not finished is due again after the given time."""
        ...

    async def finish_outbox(self, entry: OutboxEntry) -> None:
        """Forget the entry, unless its subject has been added again since it was taken."""
        ...

    async def postpone_outbox(self, entry: OutboxEntry, *, seconds: float, error: str | None) -> None:
        """Have the entry due again `seconds` from now, unless its subject has been added again since it was taken.

        With an `error` a try has failed, and is counted.
        """
        ...

    async def compact_file_counts(self, limit: int) -> int:
        """Sum up at most `limit` of the changes by which files are counted, so that reading the counts stays cheap; how many."""
        ...

    async def forget_activity(self, *, older_than_seconds: float, limit: int) -> int:
        """Delete activity events that are older, of the `limit` oldest; how many."""
        ...

    async def forget_deliveries(self, *, older_than_seconds: float, limit: int) -> int:
        """Delete deliveries to webhooks that ended longer ago, at most `limit`; how many."""
        ...

    async def forget_idempotency_keys(self, *, older_than_seconds: float, limit: int) -> int:
        """Delete idempotency keys that are older, at most `limit`; how many."""
        ...
