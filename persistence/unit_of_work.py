"""One transaction of one tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import ConflictError, ConflictReason
from domain.ports.unit_of_work import Topic, UnitOfWork
from persistence.activity import store_activity
from persistence.database import transaction
from persistence.repositories.access import SqlApiKeyRepository, SqlAuditTrail
from persistence.repositories.batches import SqlBatchRepository
from persistence.repositories.ingestions import SqlIngestionRepository
from persistence.repositories.processed_files import SqlProcessedFileRepository
from persistence.repositories.runs import SqlRunRepository
from persistence.repositories.schema_changes import SqlSchemaChangeRepository
from persistence.repositories.schema_versions import SqlSchemaVersionRepository
from persistence.repositories.scope import TenantScope
from persistence.repositories.webhooks import SqlWebhookRepository
from persistence.tables import idempotency_keys, outbox

OUTBOX_CHANNEL = "autoloader_outbox"
"""NOTIFY on it wakes whoever empties the outbox; the notification carries nothing."""


class SqlOutbox:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def add(self, topic: Topic, subject_id: UUID) -> None:
        values = {"tenant_id": self._scope.tenant_id, "topic": topic, "subject_id": subject_id}
        statement = upsert(outbox).values(values)
        again = {"revision": outbox.c.revision + 1, "due_at": func.now(), "attempts": 0}
        await self._scope.connection.execute(statement.on_conflict_do_update(constraint="uq_outbox_subject", set_=again))
        # Delivered when the transaction commits; equal notifications of one transaction are one.
        await self._scope.connection.execute(select(func.pg_notify(OUTBOX_CHANNEL, "")))


class SqlIdempotencyKeys:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def claim(self, operation: str, key: str, fingerprint: str, subject_id: UUID) -> UUID | None:
        values = {
            "tenant_id": self._scope.tenant_id,
            "operation": operation,
            "key": key,
            "fingerprint": fingerprint,
            "subject_id": subject_id,
        }
        # A concurrent claim of the same key makes this wait until the other transaction has ended.
        while not await self._scope.changed(upsert(idempotency_keys).values(values).on_conflict_do_nothing()):
            earlier = (
                await self._scope.connection.execute(
                    select(idempotency_keys.c.fingerprint, idempotency_keys.c.subject_id).where(
                        self._scope.owns(idempotency_keys), idempotency_keys.c.operation == operation, idempotency_keys.c.key == key
                    )
                )
            ).first()
            if earlier is None:
                # It was so old that it has been forgotten in between.
                continue
            if earlier.fingerprint != fingerprint:
                raise ConflictError(ConflictReason.IDEMPOTENCY_KEY_REUSED, "this idempotency key was used for another request")
            found: UUID = earlier.subject_id
            return found
        return None

    async def take_over(self, operation: str, key: str, from_subject: UUID, subject_id: UUID) -> bool:
        taken = (
            self._scope.update(idempotency_keys)
            .where(
                idempotency_keys.c.operation == operation,
                idempotency_keys.c.key == key,
                idempotency_keys.c.subject_id == from_subject,
            )
            .values(subject_id=subject_id, created_at=func.now())
        )
        return await self._scope.changed(taken) == 1


class SqlUnitOfWork:
    def __init__(self, scope: TenantScope) -> None:
        self.tenant_id = scope.tenant_id
        self.ingestions = SqlIngestionRepository(scope)
        self.runs = SqlRunRepository(scope)
        self.files = SqlProcessedFileRepository(scope)
        self.batches = SqlBatchRepository(scope)
        self.schema_versions = SqlSchemaVersionRepository(scope)
        self.schema_changes = SqlSchemaChangeRepository(scope)
        self.outbox = SqlOutbox(scope)
        self.idempotency_keys = SqlIdempotencyKeys(scope)
        self.api_keys = SqlApiKeyRepository(scope)
        self.audit = SqlAuditTrail(scope)
        self.webhooks = SqlWebhookRepository(scope)


class SqlUnitOfWorkFactory:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def __call__(self, tenant_id: UUID) -> AbstractAsyncContextManager[UnitOfWork]:
        return self._begin(tenant_id)

    @asynccontextmanager
    async def _begin(self, tenant_id: UUID) -> AsyncIterator[UnitOfWork]:
        async with transaction(self._engine, tenant_id) as connection:
            scope = TenantScope(connection, tenant_id)
            yield SqlUnitOfWork(scope)
            await store_activity(scope)
