"""What the fake repositories keep, with the database's promises: transactions, one after the other, on the database's own clock."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.access.entities import ApiKey, AuditEvent
from domain.activity.entities import ActivityEvent
from domain.ingestions.entities import Ingestion
from domain.ledger.entities import Batch, FileAttempt, ProcessedFile
from domain.notifications.entities import Webhook, WebhookDelivery
from domain.ports.unit_of_work import Subject, Topic
from domain.runs.entities import Run
from domain.schema_changes import SchemaChange
from domain.schema_versions import SchemaVersion
from domain.tenants import Tenant
from tests.fakes.clock import FakeClock


@dataclass(frozen=True)
class OutboxRow:
    id: int
    topic: Topic
    subject: Subject
    revision: int
    due_at: datetime
    attempts: int
    last_error: str | None


@dataclass(frozen=True)
class IdempotencyRow:
    fingerprint: str
    subject_id: UUID
    created_at: datetime


@dataclass
class State:
    """The tables, by primary key; rows are immutable, so that a shallow copy is a copy."""

    tenants: dict[UUID, Tenant] = field(default_factory=dict)
    api_keys: dict[UUID, ApiKey] = field(default_factory=dict)
    digests: dict[UUID, bytes] = field(default_factory=dict)
    ingestions: dict[UUID, Ingestion] = field(default_factory=dict)
    table_uuids: dict[UUID, UUID] = field(default_factory=dict)
    snapshots_seen: dict[UUID, int] = field(default_factory=dict)
    late_at: dict[UUID, datetime] = field(default_factory=dict)
    runs: dict[UUID, Run] = field(default_factory=dict)
    batches: dict[UUID, Batch] = field(default_factory=dict)
    files: dict[int, ProcessedFile] = field(default_factory=dict)
    attempts: dict[int, FileAttempt] = field(default_factory=dict)
    schema_versions: dict[int, SchemaVersion] = field(default_factory=dict)
    schema_changes: dict[UUID, SchemaChange] = field(default_factory=dict)
    audit_events: dict[int, AuditEvent] = field(default_factory=dict)
    webhooks: dict[UUID, Webhook] = field(default_factory=dict)
    webhook_secrets: dict[UUID, bytes] = field(default_factory=dict)
    deliveries: dict[UUID, WebhookDelivery] = field(default_factory=dict)
    delivery_data: dict[UUID, Mapping[str, Any]] = field(default_factory=dict)
    activity: dict[int, ActivityEvent] = field(default_factory=dict)
    outbox: dict[int, OutboxRow] = field(default_factory=dict)
    idempotency_keys: dict[tuple[UUID, str, str], IdempotencyRow] = field(default_factory=dict)

    def copy(self) -> State:
        return State(**{f.name: dict(getattr(self, f.name)) for f in dataclasses.fields(self)})

    def rows_of(self, entity: type) -> dict[Any, Any]:
        """The table that holds the entity."""
        tables: dict[type, dict[Any, Any]] = {
            Tenant: self.tenants,
            Ingestion: self.ingestions,
            Run: self.runs,
            Batch: self.batches,
            ProcessedFile: self.files,
            FileAttempt: self.attempts,
            SchemaVersion: self.schema_versions,
            SchemaChange: self.schema_changes,
            ApiKey: self.api_keys,
            AuditEvent: self.audit_events,
            Webhook: self.webhooks,
            WebhookDelivery: self.deliveries,
        }
        return tables[entity]


class FakeDatabase:
    """`state` is what is committed. The clock moves on by itself a little with each reading, and as far as a test wants."""

    def __init__(self) -> None:
        self.state = State()
        self.clock = FakeClock(tick=timedelta(microseconds=1))
        self.failure: Exception | None = None
        """Raised where a transaction would begin: the database is down."""
        self.refused = 0
        """How often that has happened."""
        self.committed: Callable[[Sequence[ActivityEvent]], None] = lambda events: None
        """Told of what a transaction has brought, once it has committed."""
        self._ids = itertools.count(1)
        self._transactions = itertools.count(1)
        self._lock = asyncio.Lock()

    def next_transaction(self) -> int:
        return next(self._transactions)

    def next_id(self) -> int:
        """As a sequence gives them: rising, and not given back by a rollback."""
        return next(self._ids)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[State]:
        """The tables to work on; committed at the end of the block, forgotten when an exception leaves it."""
        # The way to a real database and back takes time, in which others get their turn and a task can be cancelled.
        await asyncio.sleep(0)
        async with self._lock:
            if self.failure is not None:
                self.refused += 1
                raise self.failure
            work = self.state.copy()
            yield work
            await asyncio.sleep(0)
            brought = [event for id, event in work.activity.items() if id not in self.state.activity]
            self.state = work
            self.committed(brought)
