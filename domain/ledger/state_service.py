"""What the ledger says of an ingestion's files, and the one-file way of changing it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import StrictBool, StringConstraints

from domain.errors import ConfirmationRequiredError, ConflictError, ConflictReason, NotFoundError
from domain.ingestions.checkpoints import Checkpoints
from domain.ingestions.entities import IngestionStatus, Reset
from domain.ingestions.inputs import InputModel, Text
from domain.ingestions.service import require_idle
from domain.ingestions.streaming import refuse_streaming
from domain.ledger.entities import Batch, FileStatus, ProcessedFile
from domain.ledger.stepwise import MOST_AT_ONCE, Changed, stepwise
from domain.ports.object_store import StoredObject
from domain.ports.repositories import FileSelection
from domain.ports.unit_of_work import Topic, UnitOfWork, UnitOfWorkFactory
from domain.states import DONE_FILE
from domain.tenants import Principal


class SkipRequest(InputModel):
    reason: Annotated[Text, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)] = "skipped by hand"


class ClearRequest(InputModel):
    """`path_prefix` narrows it to files whose path begins so; `keep_rows` leaves their rows in the table, where they double."""

    ingestion_id: UUID
    path_prefix: Text | None = None
    confirm: StrictBool = False
    keep_rows: StrictBool = False


class FileStateService:
    """Bound to one tenant."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, checkpoints: Checkpoints, tenant_id: UUID) -> None:
        self._unit_of_work = unit_of_work
        self._checkpoints = checkpoints
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

    async def retry_files(self, principal: Principal, selection: FileSelection) -> Changed:
        """Have FAILED and SKIPPED files loaded by the next run, whatever their retries: at most `MOST_AT_ONCE`.

        Asked again, it goes on with the others: those that are changed are not selected any more. Raises `NotFoundError`, and
        `UnsupportedError` when one of them is streamed.
        """
        async with self._unit_of_work(self._tenant_id) as tx:
            await _check(tx, selection, "files cannot be retried")
            await _record(tx, principal, "retryFiles", selection)
            return await stepwise(partial(tx.files.requeue, selection), at_most=MOST_AT_ONCE)

    async def skip_files(self, principal: Principal, selection: FileSelection, *, reason: str) -> Changed:
        """Have PENDING, HELD and FAILED files left out, for the reason given: at most `MOST_AT_ONCE`, as `retry_files` does.

        Raises `NotFoundError`, and `UnsupportedError` when one of them is streamed.
        """
        async with self._unit_of_work(self._tenant_id) as tx:
            await _check(tx, selection, "files cannot be left out")
            await _record(tx, principal, "skipFiles", selection)
            return await stepwise(partial(tx.files.skip, selection, reason=reason), at_most=MOST_AT_ONCE)

    async def clear_processed_files(self, principal: Principal, request: ClearRequest) -> int:
        """Have the ingestion's files (below a prefix) forgotten, so that they are loaded again, and their rows removed; how many.

        It is decided now, and done before the next run loads anything. Raises `ConfirmationRequiredError`, `NotFoundError`,
        `ConflictError`: RUN_ACTIVE, or WRONG_STATE while an earlier refresh or clear is not done; `UnsupportedError` for a part of what is
        streamed.
        """
        if not request.confirm:
            raise ConfirmationRequiredError("this forgets files, and removes their rows unless they are kept: confirm it")
        async with self._unit_of_work(self._tenant_id) as tx:
            present = await tx.ingestions.get_by_id(request.ingestion_id, for_update=True)
            if present is None or present.status is IngestionStatus.DELETING:
                raise NotFoundError("ingestion")
            if request.path_prefix is not None:
                refuse_streaming(present, "a part of the files cannot be cleared")
            await require_idle(tx, present.id)
            if present.reset is not None:
                raise ConflictError(ConflictReason.WRONG_STATE, "an earlier refresh or clear is not done yet; try again soon")
            files = await tx.files.count_by_status(present.id, path_prefix=request.path_prefix)
            reset = Reset(uuid4(), remove_rows=not request.keep_rows, forget_files=True, path_prefix=request.path_prefix)
            checkpoint_path = self._checkpoints.path(present.tenant_id, present.id, version=present.version + 1)
            await tx.ingestions.begin_reset(present.id, reset, generation=present.generation, checkpoint_path=checkpoint_path)
            await tx.audit.record(principal, "clearProcessedFiles", "Ingestion", present.id)
            await tx.outbox.add(Topic.INGESTION, present.id)
        return sum(files.values())


async def _record(tx: UnitOfWork, principal: Principal, operation: str, selection: FileSelection) -> None:
    """Files named by their ids may be of several ingestions, so that there is no one subject."""
    if selection.ingestion_id is None:
        await tx.audit.record(principal, operation)
    else:
        await tx.audit.record(principal, operation, "Ingestion", selection.ingestion_id)


async def _check(tx: UnitOfWork, selection: FileSelection, refused: str) -> None:
    """`refused` says what cannot be done to files that are streamed."""
    if selection.ingestion_id is None:
        of_files = await tx.ingestions.get_by_files(selection.ids or ())
    else:
        ingestion = await tx.ingestions.get_by_id(selection.ingestion_id)
        if ingestion is None:
            raise NotFoundError("ingestion")
        of_files = [ingestion]
    for ingestion in of_files:
        refuse_streaming(ingestion, refused)
