"""The unit of work in memory: a tenant's repositories over one transaction of a `FakeDatabase`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from uuid import UUID

from domain.errors import ConflictError, ConflictReason
from domain.ports.unit_of_work import Subject, Topic, UnitOfWork
from tests.fakes.access import FakeApiKeyRepository, FakeAuditTrail
from tests.fakes.activity import store_activity
from tests.fakes.database import FakeDatabase, IdempotencyRow, OutboxRow
from tests.fakes.ledger import FakeProcessedFileRepository
from tests.fakes.repositories import (
    FakeBatchRepository,
    FakeIngestionRepository,
    FakeRunRepository,
    FakeSchemaChangeRepository,
    FakeSchemaVersionRepository,
    Scope,
)
from tests.fakes.webhooks import FakeWebhookRepository


class FakeOutbox:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def add(self, topic: Topic, subject_id: UUID) -> None:
        rows, subject = self._scope.state.outbox, Subject(self._scope.tenant_id, subject_id)
        waiting = next((row for row in rows.values() if (row.topic, row.subject) == (topic, subject)), None)
        if waiting is None:
            id = self._scope.database.next_id()
            rows[id] = OutboxRow(id, topic, subject, revision=1, due_at=self._scope.now(), attempts=0, last_error=None)
        else:
            rows[waiting.id] = replace(waiting, revision=waiting.revision + 1, due_at=self._scope.now(), attempts=0)


class FakeIdempotencyKeys:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def claim(self, operation: str, key: str, fingerprint: str, subject_id: UUID) -> UUID | None:
        keys = self._scope.state.idempotency_keys
        earlier = keys.get((self._scope.tenant_id, operation, key))
        if earlier is None:
            keys[self._scope.tenant_id, operation, key] = IdempotencyRow(fingerprint, subject_id, self._scope.now())
            return None
        if earlier.fingerprint != fingerprint:
            raise ConflictError(ConflictReason.IDEMPOTENCY_KEY_REUSED, "this idempotency key was used for another request")
        return earlier.subject_id

    async def take_over(self, operation: str, key: str, from_subject: UUID, subject_id: UUID) -> bool:
        keys, name = self._scope.state.idempotency_keys, (self._scope.tenant_id, operation, key)
        if name not in keys or keys[name].subject_id != from_subject:
            return False
        keys[name] = replace(keys[name], subject_id=subject_id, created_at=self._scope.now())
        return True


class FakeUnitOfWork:
    def __init__(self, scope: Scope) -> None:
        self.tenant_id = scope.tenant_id
        self.ingestions = FakeIngestionRepository(scope)
        self.runs = FakeRunRepository(scope)
        self.files = FakeProcessedFileRepository(scope)
        self.batches = FakeBatchRepository(scope)
        self.schema_versions = FakeSchemaVersionRepository(scope)
        self.schema_changes = FakeSchemaChangeRepository(scope)
        self.outbox = FakeOutbox(scope)
        self.idempotency_keys = FakeIdempotencyKeys(scope)
        self.api_keys = FakeApiKeyRepository(scope)
        self.audit = FakeAuditTrail(scope)
        self.webhooks = FakeWebhookRepository(scope)


class FakeUnitOfWorkFactory:
    """Transactions run one after the other. A task must not open a second one inside the first: it would wait for itself."""

    def __init__(self, database: FakeDatabase | None = None) -> None:
        self.database = database or FakeDatabase()

    def __call__(self, tenant_id: UUID) -> AbstractAsyncContextManager[UnitOfWork]:
        return self._begin(tenant_id)

    @asynccontextmanager
    async def _begin(self, tenant_id: UUID) -> AsyncIterator[UnitOfWork]:
        async with self.database.transaction() as state:
            scope = Scope(self.database, state, tenant_id)
            yield FakeUnitOfWork(scope)
            store_activity(scope)
