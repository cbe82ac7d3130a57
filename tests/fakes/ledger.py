"""The ledger in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from domain.activity.entities import ActivityKind
from domain.ingestions.entities import ChangedFilePolicy, Ingestion
from domain.ledger.entities import Batch, BatchStatus, ClaimedFile, FileAttempt, FileStatus, ProcessedFile
from domain.ports.engine import FileOutcome, Replaced
from domain.ports.object_store import StoredObject
from domain.ports.repositories import FILES_AT_ONCE, Discovered, FileSelection
from domain.runs.entities import Run
from domain.schema_changes import SchemaChange, SchemaChangeDecision
from domain.schema_versions import SchemaVersion
from domain.states import DONE_FILE, FILE, UNLOADED_FILE
from domain.text import readable
from tests.factories import claimed
from tests.fakes.reader import passes
from tests.fakes.repositories import Scope

_LONGEST_RETRY_SECONDS = 86_400.0


class FakeProcessedFileRepository:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._rows = scope.state.files

    async def record_discovered(
        self, ingestion_id: UUID, objects: Sequence[StoredObject], *, changed_files: ChangedFilePolicy = ChangedFilePolicy.IGNORE
    ) -> Discovered:
        assert len({o.path for o in objects}) == len(objects), "an object twice in one call"
        if self._scope.find(Ingestion, ingestion_id) is None:
            return Discovered()
        known = {file.path: file for file in self._current(ingestion_id)}
        new = changed = 0
        replaces = changed_files is ChangedFilePolicy.REPLACE
        for object in objects:
            file = known.get(object.path)
            if file is None:
                self._enter(ingestion_id, object, replaces=replaces)
                new += 1
            elif file.etag == object.etag:
                continue
            elif file.status is FileStatus.SUCCESS and changed_files is not ChangedFilePolicy.IGNORE:
                self._rows[file.id] = replace(file, current=False)
                self._enter(ingestion_id, object, replaces=replaces)
                changed += 1
            elif file.status in UNLOADED_FILE:
                self._rows[file.id] = replace(
                    file,
                    replaces=file.replaces if changed_files is ChangedFilePolicy.IGNORE else replaces,
                    status=FileStatus.PENDING,
                    size_bytes=object.size_bytes,
                    etag=object.etag,
                    modified_at=object.modified_at,
                    retry_count=0,
                    next_retry_at=None,
                    error_message=None,
                    schema_change_id=None,
                )
                changed += 1
        return Discovered(new, changed)

    async def requeue_due_failures(
        self, ingestion_id: UUID, *, max_retries: int, after: int = 0, limit: int = FILES_AT_ONCE
    ) -> Sequence[int]:
        due = _step(self._due(ingestion_id, max_retries), after, limit)
        for file in due:
            self._move(file, FileStatus.PENDING, next_retry_at=None)
        return [file.id for file in due]

    async def any_waiting(self, ingestion_id: UUID, *, max_retries: int) -> bool:
        return bool(self._pending(ingestion_id, None) or self._due(ingestion_id, max_retries))

    def _due(self, ingestion_id: UUID, max_retries: int) -> list[ProcessedFile]:
        now = self._scope.now()
        return [
            file
            for file in self._current(ingestion_id, FileStatus.FAILED)
            if file.retry_count < max_retries and file.next_retry_at is not None and file.next_retry_at <= now
        ]

    async def count_pending(self, ingestion_id: UUID, *, at_most: int, assigned_to: UUID | None = None) -> int:
        return min(at_most, len(self._pending(ingestion_id, assigned_to)))

    async def assign_unloaded(
        self, ingestion_id: UUID, *, of_run: UUID, to_run: UUID, after: int = 0, limit: int = FILES_AT_ONCE
    ) -> Sequence[int]:
        attempted = {a.file_id for a in self._scope.owned(FileAttempt) if a.run_id == of_run}
        unloaded = self._current(ingestion_id, FileStatus.PENDING, FileStatus.FAILED)
        run = self._scope.find(Run, of_run)
        known_until = run.ended_at if run else None

        def left_by(file: ProcessedFile) -> bool:
            not_come_to = file.status is FileStatus.PENDING and known_until is not None and file.discovered_at <= known_until
            return file.run_id == of_run or file.id in attempted or not_come_to

        left = _step((file for file in unloaded if left_by(file)), after, limit)
        for file in left:
            self._rows[file.id] = replace(file, status=FileStatus.PENDING, run_id=to_run, next_retry_at=None)
        return [file.id for file in left]

    async def requeue(self, selection: FileSelection, *, after: int = 0, limit: int = FILES_AT_ONCE) -> Sequence[int]:
        chosen = _step(self._selected(selection, FileStatus.FAILED, FileStatus.SKIPPED), after, limit)
        for file in chosen:
            self._move(file, FileStatus.PENDING, next_retry_at=None)
            self._scope.activity.add(ActivityKind.FILES_RETRIED, file.ingestion_id)
        return [file.id for file in chosen]

    async def skip(self, selection: FileSelection, *, reason: str, after: int = 0, limit: int = FILES_AT_ONCE) -> Sequence[int]:
        chosen = _step(self._selected(selection, FileStatus.PENDING, FileStatus.HELD, FileStatus.FAILED), after, limit)
        for file in chosen:
            fields = {"error_message": reason, "schema_change_id": None, "next_retry_at": None, "processed_at": self._scope.now()}
            self._move(file, FileStatus.SKIPPED, **fields)
            self._scope.activity.add(ActivityKind.FILES_SKIPPED, file.ingestion_id)
        return [file.id for file in chosen]

    async def claim(
        self, batch: Batch, *, max_files: int, max_bytes: int, at_least_one: bool = True, assigned_to: UUID | None = None
    ) -> Sequence[ClaimedFile]:
        taken: list[ClaimedFile] = []
        for file in self._pending(batch.ingestion_id, assigned_to)[:max_files]:
            may_exceed = at_least_one and not any(f.size_bytes for f in taken)
            if not may_exceed and sum(f.size_bytes for f in taken) + file.size_bytes > max_bytes:
                break
            taken.append(claimed(self._take(batch, file)))
        return taken

    async def claim_paths(self, batch: Batch, paths: Collection[str]) -> Sequence[ClaimedFile]:
        return [claimed(self._take(batch, file)) for file in self._pending(batch.ingestion_id, None) if file.path in paths]

    async def lock_file_for_processing(self, batch: Batch, object: StoredObject) -> ProcessedFile | None:
        await self.record_discovered(batch.ingestion_id, [object])
        taken = await self.claim_paths(batch, [object.path])
        return await self.get_by_path(batch.ingestion_id, object.path) if taken else None

    async def get_replaced(self, batch: Batch) -> Replaced:
        replaced: dict[str, frozenset[UUID]] = {}
        for file in self._processing(batch.id):
            batches = {
                earlier.batch_id
                for earlier in self._earlier(batch.ingestion_id, file.path)
                if file.replaces and earlier.rows and self._is_in_table(earlier)
            }
            if batches:
                replaced[file.path] = frozenset(id for id in batches if id is not None)
        return replaced

    async def supersede(self, batch: Batch, file_ids: Sequence[int]) -> int:
        mine = [file for file in self._scope.owned(ProcessedFile) if file.id in file_ids and file.ingestion_id == batch.ingestion_id]
        earlier = [e for file in mine for e in self._earlier(batch.ingestion_id, file.path) if e.status is FileStatus.SUCCESS]
        for file in earlier:
            self._move(file, FileStatus.SUPERSEDED)
        return len(earlier)

    async def get_earlier_versions(self, ingestion_id: UUID, path: str, *, limit: int) -> Sequence[ProcessedFile]:
        return sorted(self._earlier(ingestion_id, path), key=lambda file: -file.id)[:limit]

    async def rows_of_earlier_versions(self, ingestion_id: UUID, paths: Collection[str]) -> Mapping[str, int]:
        in_table = {path: [file for file in self._earlier(ingestion_id, path) if self._is_in_table(file)] for path in paths}
        return {path: sum(file.rows or 0 for file in files) for path, files in in_table.items() if files}

    async def get_processed_file_paths(self, ingestion_id: UUID, paths: Collection[str]) -> set[str]:
        return {file.path for file in self._current(ingestion_id, *DONE_FILE)} & set(paths)

    async def get_known_paths(self, ingestion_id: UUID, paths: Collection[str]) -> set[str]:
        return {file.path for file in self._current(ingestion_id)} & set(paths)

    async def get_by_path_order(self, ingestion_id: UUID, *, after: str | None, limit: int) -> Sequence[ProcessedFile]:
        files = sorted(self._current(ingestion_id), key=lambda file: file.path)
        return [file for file in files if after is None or file.path > after][:limit]

    async def get_by_path(self, ingestion_id: UUID, path: str) -> ProcessedFile | None:
        return next((file for file in self._current(ingestion_id) if file.path == path), None)

    async def get_processed_files(
        self, ingestion_id: UUID, *, status: Sequence[FileStatus], limit: int, after: int = 0
    ) -> Sequence[ProcessedFile]:
        return [file for file in self._current(ingestion_id) if file.status in status and file.id > after][:limit]

    async def get_failed_files(self, ingestion_id: UUID, *, max_retries: int, limit: int) -> Sequence[ProcessedFile]:
        return [file for file in self._current(ingestion_id, FileStatus.FAILED) if file.retry_count < max_retries][:limit]

    async def get_stale_processing_files(self, ingestion_id: UUID, *, limit: int) -> Sequence[ProcessedFile]:
        now = self._scope.now()
        stale = {b.id for b in self._scope.owned(Batch) if b.status is BatchStatus.CLAIMED and b.lease_expires_at <= now}
        return [file for file in self._current(ingestion_id, FileStatus.PROCESSING) if file.batch_id in stale][:limit]

    async def mark_success(self, batch: Batch, outcomes: Sequence[FileOutcome], *, snapshot_id: int | None) -> int:
        ingestion = self._scope.find(Ingestion, batch.ingestion_id)
        generation = ingestion.generation if ingestion else None
        fields = {"snapshot_id": snapshot_id, "generation": generation, "error_message": None, "next_retry_at": None}
        return sum(self._mark(batch, o, FileStatus.SUCCESS, **fields) for o in outcomes)

    async def mark_failed(self, batch: Batch, outcomes: Sequence[FileOutcome], *, max_retries: int, retry_base_seconds: float) -> int:
        marked = 0
        for outcome in outcomes:
            file = self._in_work(batch).get(outcome.file_id)
            if file is not None:
                failures = file.retry_count + 1
                wait = min(retry_base_seconds * 2 ** min(failures - 1, 30), _LONGEST_RETRY_SECONDS)
                due = self._scope.now() + timedelta(seconds=wait) if failures < max_retries else None
                marked += self._mark(batch, outcome, FileStatus.FAILED, retry_count=failures, next_retry_at=due)
        return marked

    async def mark_skipped(self, batch: Batch, outcomes: Sequence[FileOutcome]) -> int:
        return sum(self._mark(batch, o, FileStatus.SKIPPED, next_retry_at=None) for o in outcomes)

    async def mark_held(self, batch: Batch, outcomes: Sequence[FileOutcome], waiting_for: Mapping[int, UUID]) -> int:
        return sum(self._mark(batch, o, FileStatus.HELD, schema_change_id=waiting_for[o.file_id], next_retry_at=None) for o in outcomes)

    async def release_held(
        self, ingestion_id: UUID, *, outdated: bool = False, after: int = 0, limit: int = FILES_AT_ONCE
    ) -> Sequence[int]:
        versions = [v.created_at for v in self._scope.owned(SchemaVersion) if v.ingestion_id == ingestion_id]
        newest = max(versions, default=None)
        decided = {c.id for c in self._scope.owned(SchemaChange) if c.decision is not SchemaChangeDecision.PENDING}

        def is_outdated(file: ProcessedFile) -> bool:
            before = newest is not None and file.processed_at is not None and file.processed_at < newest
            return before or file.schema_change_id in decided

        held = self._current(ingestion_id, FileStatus.HELD)
        released = _step((file for file in held if not outdated or is_outdated(file)), after, limit)
        for file in released:
            self._move(file, FileStatus.PENDING)
        return [file.id for file in released]

    async def release(self, batch: Batch) -> int:
        released = list(self._in_work(batch).values())
        for file in released:
            self._move(file, FileStatus.PENDING, batch_id=None)
        return len(released)

    async def batch_files(self, batch_id: UUID) -> Sequence[ClaimedFile]:
        return [claimed(file) for file in sorted(self._processing(batch_id), key=lambda file: file.id)]

    async def count_by_status(self, ingestion_id: UUID, *, path_prefix: str | None = None) -> Mapping[FileStatus, int]:
        return Counter(file.status for file in self._below(ingestion_id, path_prefix) if file.current)

    async def delete_by_ingestion(self, ingestion_id: UUID, *, path_prefix: str | None = None, limit: int | None = None) -> int:
        gone = {file.id for file in self._below(ingestion_id, path_prefix)[:limit]}
        for id in gone:
            del self._rows[id]
        attempts = self._scope.state.attempts
        for id in [attempt.id for attempt in attempts.values() if attempt.file_id in gone]:
            del attempts[id]
        if gone:
            self._scope.activity.add(ActivityKind.FILES_FORGOTTEN, ingestion_id)
        return len(gone)

    def _earlier(self, ingestion_id: UUID, path: str) -> list[ProcessedFile]:
        files = self._scope.owned(ProcessedFile)
        return [file for file in files if file.ingestion_id == ingestion_id and file.path == path and not file.current]

    def _is_in_table(self, file: ProcessedFile) -> bool:
        ingestion = self._scope.find(Ingestion, file.ingestion_id)
        return file.status is FileStatus.SUCCESS and ingestion is not None and file.generation == ingestion.generation

    def _below(self, ingestion_id: UUID, path_prefix: str | None) -> list[ProcessedFile]:
        files = [file for file in self._scope.owned(ProcessedFile) if file.ingestion_id == ingestion_id]
        return [file for file in files if path_prefix is None or file.path.startswith(path_prefix)]

    def _current(self, ingestion_id: UUID, *status: FileStatus) -> list[ProcessedFile]:
        files = [f for f in self._scope.owned(ProcessedFile) if f.ingestion_id == ingestion_id and f.current]
        return sorted((f for f in files if not status or f.status in status), key=lambda f: f.id)

    def _pending(self, ingestion_id: UUID, assigned_to: UUID | None) -> list[ProcessedFile]:
        return [file for file in self._current(ingestion_id, FileStatus.PENDING) if assigned_to is None or file.run_id == assigned_to]

    def _selected(self, selection: FileSelection, *status: FileStatus) -> list[ProcessedFile]:
        files = [file for file in self._scope.owned(ProcessedFile) if file.current and file.status in status]
        if selection.ids is not None:
            return [file for file in files if file.id in selection.ids]
        return [file for file in files if file.ingestion_id == selection.ingestion_id and passes((file, None), selection.filter)]

    def _processing(self, batch_id: UUID) -> list[ProcessedFile]:
        return [f for f in self._scope.owned(ProcessedFile) if f.batch_id == batch_id and f.status is FileStatus.PROCESSING]

    def _in_work(self, batch: Batch) -> dict[int, ProcessedFile]:
        return {file.id: file for file in self._processing(batch.id)}

    def _enter(self, ingestion_id: UUID, object: StoredObject, *, replaces: bool) -> None:
        unset = (
            "run_id",
            "batch_id",
            "rows",
            "rows_skipped",
            "rows_rescued",
            "snapshot_id",
            "generation",
            "next_retry_at",
            "error_message",
            "schema_change_id",
        )
        id = self._scope.database.next_id()
        self._rows[id] = ProcessedFile(
            id=id,
            tenant_id=self._scope.tenant_id,
            ingestion_id=ingestion_id,
            path=object.path,
            current=True,
            replaces=replaces,
            status=FileStatus.PENDING,
            size_bytes=object.size_bytes,
            etag=object.etag,
            modified_at=object.modified_at,
            retry_count=0,
            discovered_at=self._scope.now(),
            processed_at=None,
            **dict.fromkeys(unset),
        )

    def _take(self, batch: Batch, file: ProcessedFile) -> ProcessedFile:
        return self._move(file, FileStatus.PROCESSING, batch_id=batch.id, run_id=batch.run_id)

    def _mark(self, batch: Batch, outcome: FileOutcome, status: FileStatus, **fields: Any) -> bool:
        file = self._in_work(batch).get(outcome.file_id)
        if file is None:
            return False
        message = None if outcome.message is None else readable(outcome.message)
        counts = {"rows": outcome.rows, "rows_skipped": outcome.rows_skipped, "rows_rescued": outcome.rows_rescued}
        told = {"error_message": message, "schema_change_id": None, "processed_at": self._scope.now()}
        self._move(file, status, **told | counts | fields)
        id = self._scope.database.next_id()
        self._scope.state.attempts[id] = FileAttempt(
            id=id,
            tenant_id=batch.tenant_id,
            ingestion_id=batch.ingestion_id,
            run_id=batch.run_id,
            file_id=file.id,
            batch_id=batch.id,
            outcome=status,
            error_message=message,
            attempted_at=self._scope.now(),
            **counts,
        )
        return True

    def _move(self, file: ProcessedFile, status: FileStatus, **fields: Any) -> ProcessedFile:
        FILE.require(file.status, status)
        self._rows[file.id] = replace(file, status=status, **fields)
        return self._rows[file.id]


def _step(files: Iterable[ProcessedFile], after: int, limit: int) -> list[ProcessedFile]:
    return sorted((file for file in files if file.id > after), key=lambda file: file.id)[:limit]
