from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, insert

from domain.ledger.entities import Batch, BatchStatus
from domain.states import ACTIVE_RUN
from persistence.mapping import columns_of
from persistence.repositories.conflicts import owned_ingestion
from persistence.repositories.runs import lease_end
from persistence.repositories.scope import TenantScope
from persistence.tables import batches, runs


class SqlBatchRepository:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def open(self, *, id: UUID, ingestion_id: UUID, run_id: UUID, table_uuid: UUID | None, lease_seconds: float) -> Batch:
        values = {
            "id": id,
            "tenant_id": self._scope.tenant_id,
            "ingestion_id": ingestion_id,
            "run_id": run_id,
            "status": BatchStatus.CLAIMED,
            "epoch": 1,
            "lease_expires_at": lease_end(lease_seconds),
            "table_uuid": table_uuid,
        }
        with owned_ingestion("batches"):
            opened = await self._scope.first(Batch, insert(batches).values(values).returning(*columns_of(Batch)))
        assert opened is not None
        return opened

    async def get_by_id(self, id: UUID) -> Batch | None:
        return await self._scope.first(Batch, self._scope.select(Batch).where(batches.c.id == id))

    async def get_abandoned(self, ingestion_id: UUID) -> Sequence[Batch]:
        at_work = exists().where(runs.c.id == batches.c.run_id, runs.c.status.in_(ACTIVE_RUN), self._scope.owns(runs))
        statement = self._scope.select(Batch).where(
            batches.c.ingestion_id == ingestion_id, batches.c.status == BatchStatus.CLAIMED, ~at_work
        )
        return await self._scope.all(Batch, statement.order_by(batches.c.created_at, batches.c.id))

    async def renew_lease(self, batch: Batch, *, seconds: float) -> bool:
        held = self._held(batch).where(batches.c.lease_expires_at > func.clock_timestamp())
        return await self._scope.changed(held.values(lease_expires_at=lease_end(seconds))) > 0

    async def take_over(self, id: UUID, *, lease_seconds: float, only_expired: bool) -> Batch | None:
        statement = self._scope.update(batches).where(batches.c.id == id, batches.c.status == BatchStatus.CLAIMED)
        if only_expired:
            statement = statement.where(batches.c.lease_expires_at <= func.clock_timestamp())
        taken = statement.values(epoch=batches.c.epoch + 1, lease_expires_at=lease_end(lease_seconds)).returning(*columns_of(Batch))
        return await self._scope.first(Batch, taken)

    async def commit(self, batch: Batch, *, snapshot_id: int | None, files: int) -> bool:
        return await self._settle(batch, status=BatchStatus.COMMITTED, snapshot_id=snapshot_id, files=files)

    async def release(self, batch: Batch) -> bool:
        return await self._settle(batch, status=BatchStatus.RELEASED)

    async def _settle(self, batch: Batch, **values: Any) -> bool:
        return await self._scope.changed(self._held(batch).values(settled_at=func.now(), **values)) > 0

    def _held(self, batch: Batch) -> Any:
        """The batch, as long as its epoch is still the one in hand."""
        return self._scope.update(batches).where(
            batches.c.id == batch.id, batches.c.status == BatchStatus.CLAIMED, batches.c.epoch == batch.epoch
        )
