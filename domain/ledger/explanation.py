"""Why a file is, or is not, in the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.clock import Clock
from domain.errors import NotFoundError
from domain.ingestions.entities import ChangedFilePolicy, DiscoveryMode, Ingestion, IngestionStatus, SchemaEvolution
from domain.ingestions.inputs import InputModel, Text
from domain.ledger.entities import FileStatus, ProcessedFile
from domain.ledger.globs import relative_path
from domain.ledger.source_filters import source_filters
from domain.ports.object_store import ObjectStores, SourceUnavailableError, StoredObject
from domain.ports.unit_of_work import UnitOfWorkFactory
from domain.runs.entities import Run, RunStatus
from domain.schema_changes import SchemaChange, described
from domain.states import RUNNABLE
from domain.tenants import Principal


class FileState(StrEnum):
    """Where a path stands between the source and the table."""

    LOADED = "LOADED"
    ABSENT_BY_REFRESH = "ABSENT_BY_REFRESH"
    LOADED_THEN_CHANGED = "LOADED_THEN_CHANGED"
    LOADING = "LOADING"
    WAITING = "WAITING"
    WAITING_FOR_RETRY = "WAITING_FOR_RETRY"
    WAITING_FOR_AGE = "WAITING_FOR_AGE"
    WAITING_FOR_PERSON = "WAITING_FOR_PERSON"
    WAITING_FOR_APPROVAL = "WAITING_FOR_APPROVAL"
    SKIPPED = "SKIPPED"
    NOT_LISTED_YET = "NOT_LISTED_YET"
    FILTERED_OUT = "FILTERED_OUT"
    OUTSIDE_SOURCE = "OUTSIDE_SOURCE"
    NOT_AT_SOURCE = "NOT_AT_SOURCE"
    UNKNOWN = "UNKNOWN"


NAMED_VERSIONS = 100


@dataclass(frozen=True, slots=True)
class FileExplanation:
    """`file` is the ledger's row, None when there is none; `at_source` is the object as the store shows it now.

    `earlier_versions` are the ledger's rows of what the path held before, the newest first, at most `NAMED_VERSIONS`. `source_problem`
    says why the store could not be asked; then `at_source` is None and means nothing.
    """

    path: str
    state: FileState
    explanation: str
    file: ProcessedFile | None
    at_source: StoredObject | None
    source_problem: str | None
    earlier_versions: Sequence[ProcessedFile] = ()


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
            earlier = await tx.files.get_earlier_versions(ingestion_id, path, limit=NAMED_VERSIONS) if file else ()
            rows = (await tx.files.rows_of_earlier_versions(ingestion_id, [path])).get(path) if earlier else None
            run = await tx.runs.get_active(ingestion_id)
            change = await tx.schema_changes.get_by_id(file.schema_change_id) if file and file.schema_change_id else None
        if file is None and relative_path(ingestion.source.path, path) == path:
            said = f"the ingestion reads {ingestion.source.path}, and this is not below it"
            return FileExplanation(path, FileState.OUTSIDE_SOURCE, said, None, None, None)
        object, problem = None, None
        try:
            object = await self._stores.open(ingestion.source, principal.tenant.grants).stat(path)
        except SourceUnavailableError as error:
            problem = error.message
        waits = _what_is_waited_for(ingestion, run, file)
        if file is not None:
            state, said = self._known(ingestion, file, change, object, problem, waits)
        else:
            state, said = self._unknown(ingestion, object, problem, waits)
        if file is not None and rows is not None:
            said += _of_earlier(file, rows)
        return FileExplanation(path, state, said, file, object, problem, earlier)

    def _known(
        self,
        ingestion: Ingestion,
        file: ProcessedFile,
        change: SchemaChange | None,
        object: StoredObject | None,
        problem: str | None,
        waits: _Waits,
    ) -> tuple[FileState, str]:
        match file.status:
            case FileStatus.SUCCESS | FileStatus.SUPERSEDED:
                return self._loaded(ingestion, file, object, problem, waits)
            case FileStatus.PROCESSING:
                if waits.run_id != file.run_id:
                    return FileState.LOADING, f"run {file.run_id} had it in hand and has ended; whether it is in the table is being settled"
                return FileState.LOADING, f"run {file.run_id} has it in hand, in batch {file.batch_id}"
            case FileStatus.PENDING:
                return waits.state, f"{waits.said}{_gone(object, problem)}"
            case FileStatus.HELD:
                if object is not None and object.etag != file.etag:
                    return self._anew(ingestion, object, waits, "it waited for a schema change to be approved")
                if ingestion.policies.schema_evolution is not SchemaEvolution.REQUIRE_APPROVAL:
                    return waits.state, f"nobody has to approve its schema change any more, and {waits.said}{_gone(object, problem)}"
                return FileState.WAITING_FOR_APPROVAL, f"{_asked(change)}{_gone(object, problem)}"
            case FileStatus.SKIPPED:
                said = f"it was left out: {file.error_message}"
                if object is not None and object.etag != file.etag:
                    return self._anew(ingestion, object, waits, said)
                return FileState.SKIPPED, said
            case FileStatus.FAILED:
                times = "once" if file.retry_count == 1 else f"{file.retry_count} times"
                said = f"it has failed {times}, at last with: {file.error_message}"
                if object is not None and object.etag != file.etag:
                    return self._anew(ingestion, object, waits, said)
                return _failed(ingestion, file, f"{said}{_gone(object, problem)}", waits)

    def _loaded(
        self, ingestion: Ingestion, file: ProcessedFile, object: StoredObject | None, problem: str | None, waits: _Waits
    ) -> tuple[FileState, str]:
        state, said = _in_table(ingestion, file, object, problem)
        if object is None or object.etag == file.etag:
            return state, said
        if ingestion.policies.changed_files is ChangedFilePolicy.IGNORE:
            becomes = "the policy for changed files lets it be"
        else:
            added = ingestion.policies.changed_files is ChangedFilePolicy.APPEND
            what = "its rows are added to those" if added else "its rows take the place of those"
            becomes = f"{what} by the policy for changed files; {self._unlisted(ingestion, object, waits)[1]}"
        changed = f"{said}; it has been overwritten since, and {becomes}"
        return FileState.LOADED_THEN_CHANGED if state is FileState.LOADED else state, changed

    def _anew(self, ingestion: Ingestion, object: StoredObject, waits: _Waits, said: str) -> tuple[FileState, str]:
        """An unloaded file with new content: the listing that finds it makes it PENDING, if the filters let it pass."""
        state, why = self._unlisted(ingestion, object, waits)
        return state, f"{said}; it has been overwritten since, and {why}"

    def _unknown(self, ingestion: Ingestion, object: StoredObject | None, problem: str | None, waits: _Waits) -> tuple[FileState, str]:
        if problem is not None:
            return FileState.UNKNOWN, f"it was never listed, and the source does not answer: {problem}"
        if object is None:
            return FileState.NOT_AT_SOURCE, "there is no such file at the source, and there was none at any listing"
        state, why = self._unlisted(ingestion, object, waits)
        if state is not waits.state:
            return state, why
        if (due_at := ingestion.listing_due_at) is not None:
            brings = f"its notification brings it, or else the listing that is due at {due_at.isoformat()}"
            return FileState.NOT_LISTED_YET, f"no notification of it has been received since the last listing; {brings}; {why}"
        return FileState.NOT_LISTED_YET, f"it has come since the last listing; {why}"

    def _unlisted(self, ingestion: Ingestion, object: StoredObject, waits: _Waits) -> tuple[FileState, str]:
        """What the next listing makes of an object that the ledger does not hold as it is now."""
        against = [filter for filter in source_filters(ingestion.source, now=self._clock.now()) if not filter.passes(object)]
        for filter in against:
            if filter.passes_at is None:
                return FileState.FILTERED_OUT, f"the ingestion takes only what is: {filter.rule}"
        for filter in against:
            if filter.passes_at is not None:
                old_enough = f"it is taken once it is {filter.rule}: from {filter.passes_at(object).isoformat()} on"
                return FileState.WAITING_FOR_AGE, f"{old_enough}; {waits.said}"
        return waits.state, waits.said


@dataclass(frozen=True, slots=True)
class _Waits:
    """For what a file of the ingestion waits that nothing but the next run keeps out of the table."""

    state: FileState
    said: str
    run_id: UUID | None = None
    """The ingestion's active run."""


def _what_is_waited_for(ingestion: Ingestion, run: Run | None, file: ProcessedFile | None) -> _Waits:
    if run is not None and not run.lists and (file is None or file.run_id != run.id):
        return _Waits(FileState.WAITING, f"the run after {run.id} loads it: that one takes only the files that it tries again", run.id)
    if run is not None and run.status is RunStatus.QUEUED:
        return _Waits(FileState.WAITING, f"run {run.id} loads it, and waits for a free slot", run.id)
    if run is not None:
        return _Waits(FileState.WAITING, f"run {run.id} is under way; this run or the next one loads it", run.id)
    if ingestion.status is IngestionStatus.DELETING:
        return _Waits(FileState.WAITING_FOR_PERSON, "no run starts any more: the ingestion is being deleted")
    if ingestion.status not in RUNNABLE:
        return _Waits(FileState.WAITING_FOR_PERSON, f"the next run loads it, once the ingestion, which is {ingestion.status}, is resumed")
    if ingestion.status is IngestionStatus.ACTIVE and ingestion.source.discovery is DiscoveryMode.EVENTS:
        return _Waits(FileState.WAITING, "the next run loads it, which begins by itself")
    if ingestion.status is IngestionStatus.ACTIVE and ingestion.next_due_at is not None:
        return _Waits(FileState.WAITING, f"the next run loads it, by the schedule at {ingestion.next_due_at.isoformat()}")
    why = "no schedule fires" if ingestion.schedule is None else f"its schedule rests while it is {ingestion.status}"
    return _Waits(FileState.WAITING, f"the next run loads it, which somebody has to ask for: {why}")


def _in_table(ingestion: Ingestion, file: ProcessedFile, object: StoredObject | None, problem: str | None) -> tuple[FileState, str]:
    if file.generation != ingestion.generation:
        said = (
            f"it was loaded in generation {file.generation}; the table has been begun anew since (generation "
            f"{ingestion.generation}), without what was loaded before"
        )
        return FileState.ABSENT_BY_REFRESH, said
    said = f"its {file.rows} rows are in the table{_brought_by(file)}"
    if file.rows_skipped:
        said += f"; {file.rows_skipped} more were left out by the bad-row policy"
    if object is None and problem is None:
        said += "; it has gone from the source since"
    return FileState.LOADED, said


def _of_earlier(file: ProcessedFile, rows: int) -> str:
    """What becomes of the rows that earlier versions have in the table."""
    if file.status is FileStatus.SUCCESS:
        return f"; {rows} rows of earlier versions are in the table too"
    if not file.replaces or file.status is FileStatus.SKIPPED:
        return f"; the {rows} rows of earlier versions stay in the table"
    return f"; until it is loaded, the {rows} rows of earlier versions stay in the table"


def _failed(ingestion: Ingestion, file: ProcessedFile, said: str, waits: _Waits) -> tuple[FileState, str]:
    if file.next_retry_at is None or file.retry_count >= ingestion.policies.max_file_retries:
        return FileState.WAITING_FOR_PERSON, f"{said}; it is not tried again by itself"
    if waits.state is FileState.WAITING_FOR_PERSON:
        return waits.state, f"{said}; its next try waits: {waits.said}"
    return FileState.WAITING_FOR_RETRY, f"{said}; a run after {file.next_retry_at.isoformat()} tries it again"


def _brought_by(file: ProcessedFile) -> str:
    """A file that was marked without a run's doing has nothing to say of it."""
    if file.run_id is None:
        return ""
    snapshot = "" if file.snapshot_id is None else f", as snapshot {file.snapshot_id}"
    return f", brought by run {file.run_id} in batch {file.batch_id}{snapshot}"


def _asked(change: SchemaChange | None) -> str:
    if change is None:
        return "it waits for a schema change to be approved"
    return f"it waits for a schema change to be approved: {described(change.changes)}; proposed at {change.proposed_at.isoformat()}"


def _gone(object: StoredObject | None, problem: str | None) -> str:
    return "; but it has gone from the source" if object is None and problem is None else ""
