"""Why a file is, or is not, in the table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.clock import Clock
from domain.errors import NotFoundError
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ingestions.inputs import InputModel, Text
from domain.ledger.entities import FileStatus, ProcessedFile
from domain.ledger.globs import relative_path
from domain.ledger.source_filters import source_filters
from domain.ports.object_store import ObjectStores, SourceUnavailableError, StoredObject
from domain.ports.unit_of_work import UnitOfWorkFactory
from domain.tenants import Principal


class FileState(StrEnum):
    """Where a path stands between the source and the table."""

    LOADED = "LOADED"
    ABSENT_BY_REFRESH = "ABSENT_BY_REFRESH"
    LOADED_THEN_CHANGED = "LOADED_THEN_CHANGED"
    LOADING = "LOADING"
    WAITING = "WAITING"
    WAITING_FOR_RETRY = "WAITING_FOR_RETRY"
    WAITING_FOR_PERSON = "WAITING_FOR_PERSON"
    SKIPPED = "SKIPPED"
    NOT_LISTED_YET = "NOT_LISTED_YET"
    FILTERED_OUT = "FILTERED_OUT"
    OUTSIDE_SOURCE = "OUTSIDE_SOURCE"
    NOT_AT_SOURCE = "NOT_AT_SOURCE"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class FileExplanation:
    """`file` is the ledger's row, None when there is none; `at_source` is the object as the store shows it now.

    `source_problem` says why the store could not be asked; then `at_source` is None and means nothing.
    """

    path: str
    state: FileState
    explanation: str
    file: ProcessedFile | None
    at_source: StoredObject | None
    source_problem: str | None


class ExplainRequest(InputModel):
    ingestion_id: UUID
    path: Text


class ExplanationService:
    def __init__(self, unit_of_work: UnitOfWorkFactory, stores: ObjectStores, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._stores = stores
        self._clock = clock

    async def explain(self, principal: Principal, request: ExplainRequest) -> FileExplanation:
        """Ask the ledger, then the store. Raises `NotFoundError` for the ingestion; any path has an explanation."""
        ingestion_id, path = request.ingestion_id, request.path
        async with self._unit_of_work(principal.tenant.id) as tx:
            ingestion = await tx.ingestions.get_by_id(ingestion_id)
            if ingestion is None:
                raise NotFoundError("ingestion")
            file = await tx.files.get_by_path(ingestion_id, path)
        if file is None and relative_path(ingestion.source.path, path) == path:
            said = f"the ingestion reads {ingestion.source.path}, and this is not below it"
            return FileExplanation(path, FileState.OUTSIDE_SOURCE, said, None, None, None)
        object, problem = None, None
        try:
            object = await self._stores.open(ingestion.source, principal.tenant.grants).stat(path)
        except SourceUnavailableError as error:
            problem = error.message
        state, said = self._known(ingestion, file, object, problem) if file else self._unknown(ingestion, object, problem)
        return FileExplanation(path, state, said, file, object, problem)

    def _known(self, ingestion: Ingestion, file: ProcessedFile, object: StoredObject | None, problem: str | None) -> tuple[FileState, str]:
        match file.status:
            case FileStatus.SUCCESS | FileStatus.SUPERSEDED:
                if file.generation != ingestion.generation:
                    said = (
                        f"it was loaded in generation {file.generation}; the table has been begun anew since (generation "
                        f"{ingestion.generation}), without what was loaded before"
                    )
                    return FileState.ABSENT_BY_REFRESH, said
                said = f"its {file.rows} rows are in the table"
                if file.rows_skipped:
                    said += f"; {file.rows_skipped} more were left out by the bad-row policy"
                if object is not None and object.etag != file.etag:
                    return (
                        FileState.LOADED_THEN_CHANGED,
                        f"{said}; it has been overwritten since, and the policy for changed files lets it be",
                    )
                if object is None and problem is None:
                    said += "; it has gone from the source since"
                return FileState.LOADED, said
            case FileStatus.PROCESSING:
                return FileState.LOADING, "a run has it in hand"
            case FileStatus.PENDING:
                return FileState.WAITING, f"the next run loads it{_gone(object, problem)}"
            case FileStatus.HELD:
                return FileState.WAITING_FOR_PERSON, "it waits for a schema change to be approved"
            case FileStatus.SKIPPED:
                return FileState.SKIPPED, f"it was left out: {file.error_message}"
            case FileStatus.FAILED:
                times = "once" if file.retry_count == 1 else f"{file.retry_count} times"
                said = f"it has failed {times}, at last with: {file.error_message}"
                if object is not None and object.etag != file.etag:
                    return FileState.WAITING, f"{said}; it has been overwritten since, and the next run loads the new content"
                if file.next_retry_at is None:
                    return FileState.WAITING_FOR_PERSON, f"{said}; it is not tried again by itself{_gone(object, problem)}"
                return (
                    FileState.WAITING_FOR_RETRY,
                    f"{said}; a run after {file.next_retry_at.isoformat()} tries it again{_gone(object, problem)}",
                )

    def _unknown(self, ingestion: Ingestion, object: StoredObject | None, problem: str | None) -> tuple[FileState, str]:
        if problem is not None:
            return FileState.UNKNOWN, f"it was never listed, and the source does not answer: {problem}"
        if object is None:
            return FileState.NOT_AT_SOURCE, "there is no such file at the source, and there was none at any listing"
        for filter in source_filters(ingestion.source, now=self._clock.now()):
            if not filter.passes(object):
                return FileState.FILTERED_OUT, f"the ingestion takes only what is: {filter.rule}"
        when = "when the ingestion is resumed" if ingestion.status is IngestionStatus.PAUSED else "by the next run"
        return FileState.NOT_LISTED_YET, f"it has come since the last listing, and is found {when}"


def _gone(object: StoredObject | None, problem: str | None) -> str:
    return "; but it has gone from the source" if object is None and problem is None else ""
