"""What the ledger says of an ingestion's files, and the one-file way of changing it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints

from domain.errors import NotFoundError
from domain.ingestions.inputs import InputModel, Text
from domain.ledger.entities import Batch, FileStatus, ProcessedFile
from domain.ports.object_store import StoredObject
from domain.ports.repositories import FileSelection
from domain.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from domain.states import DONE_FILE
from domain.tenants import Principal


class SkipRequest(InputModel):
    reason: Annotated[Text, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)] = "skipped by hand"


class FileStateService:
    """Bound to one tenant."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, tenant_id: UUID) -> None:
        self._unit_of_work = unit_of_work
        self._tenant_id = tenant_id

    async def lock_file_for_processing(self, batch: Batch, object: StoredObject) -> ProcessedFile | None:
        """Claim one object for the batch; None when it is not PENDING. Of concurrent callers one wins."""
        async with self._unit_of_work(self._tenant_id) as tx:
            return await tx.files.lock_file_for_processing(batch, object)

    async def get_processed_file_paths(self, ingestion_id: UUID, paths: Collection[str]) -> set[str]:
        """Which of the given paths are done."""
        async with self._unit_of_work(self._tenant_id) as tx:
            return await tx.files.get_processed_file_paths(ingestion_id, paths)

    async def get_processed_files(
        self, ingestion_id: UUID, *, status: Sequence[FileStatus] = DONE_FILE, limit: int = 1_000, after: int = 0
    ) -> Sequence[ProcessedFile]:
        """Files by id, by default those that are done (SUCCESS, SKIPPED), `limit` at a time."""
        async with self._unit_of_work(self._tenant_id) as tx:
            return await tx.files.get_processed_files(ingestion_id, status=status, limit=limit, after=after)

    async def get_failed_files(self, ingestion_id: UUID, *, max_retries: int, limit: int = 1_000) -> Sequence[ProcessedFile]:
        """FAILED files that have been tried again fewer than `max_retries` times."""
        async with self._unit_of_work(self._tenant_id) as tx:
            return await tx.files.get_failed_files(ingestion_id, max_retries=max_retries, limit=limit)

    async def retry_files(self, principal: Principal, selection: FileSelection) -> int:
        """Have FAILED and SKIPPED files loaded by the next run, whatever their retries; how many. Raises `NotFoundError`."""
        async with self._unit_of_work(self._tenant_id) as tx:
            await _must_exist(tx, selection)
            await _record(tx, principal, "retryFiles", selection)
            return await tx.files.requeue(selection)

    async def skip_files(self, principal: Principal, selection: FileSelection, *, reason: str) -> int:
        """Have PENDING and FAILED files left out, for the reason given; how many. Raises `NotFoundError`."""
        async with self._unit_of_work(self._tenant_id) as tx:
            await _must_exist(tx, selection)
            await _record(tx, principal, "skipFiles", selection)
            return await tx.files.skip(selection, reason=reason)

    async def clear_processed_files(self, ingestion_id: UUID, *, path_prefix: str | None = None) -> int:
        """Forget the ingestion's files (below a prefix), so that they would be loaded again; how many."""
        async with self._unit_of_work(self._tenant_id) as tx:
            return await tx.files.delete_by_ingestion(ingestion_id, path_prefix=path_prefix)


async def _record(tx: UnitOfWork, principal: Principal, operation: str, selection: FileSelection) -> None:
    """Files named by their ids may be of several ingestions, so that there is no one subject."""
    if selection.ingestion_id is None:
        await tx.audit.record(principal, operation)
    else:
        await tx.audit.record(principal, operation, "Ingestion", selection.ingestion_id)


async def _must_exist(tx: UnitOfWork, selection: FileSelection) -> None:
    if selection.ingestion_id is not None and await tx.ingestions.get_by_id(selection.ingestion_id) is None:
        raise NotFoundError("ingestion")
