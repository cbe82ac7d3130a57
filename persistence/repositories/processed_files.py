"""The ledger in SQL. Every method is a few statements at most, whatever the number of files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Float,
    Select,
    TableValuedAlias,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.activity.entities import ActivityKind
from domain.ingestions.entities import ChangedFilePolicy
from domain.ledger.entities import Batch, BatchStatus, ClaimedFile, FileStatus, ProcessedFile
from domain.ports.engine import FileOutcome, Replaced
from domain.ports.object_store import StoredObject
from domain.ports.repositories import FILES_AT_ONCE, Discovered, FileSelection
from domain.schema_changes import SchemaChangeDecision
from domain.states import DONE_FILE, FILE, UNLOADED_FILE
from persistence.mapping import columns_of
from persistence.relations import conditions, starts_with
from persistence.repositories.scope import TenantScope
from persistence.stats import counts_statement
from persistence.tables import batches, file_attempts, ingestions, processed_files, runs, schema_changes, schema_versions
from persistence.types import Message

_STATUS = processed_files.c.status.type
_LONGEST_RETRY_SECONDS = 86_400.0
_File = TypeVar("_File", ProcessedFile, ClaimedFile)


class SqlProcessedFileRepository:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def record_discovered(
        self, ingestion_id: UUID, objects: Sequence[StoredObject], *, changed_files: ChangedFilePolicy = ChangedFilePolicy.IGNORE
    ) -> Discovered:
        unknown, changed = await self._unknown_and_changed(ingestion_id, objects) if objects else ([], [])
        if not (unknown or changed):
            return Discovered()
        followed = 0
        if changed and changed_files is not ChangedFilePolicy.IGNORE:
            followed = await self._make_way(ingestion_id, changed)
        listed = _listed([*unknown, *changed])
        replaces = changed_files is ChangedFilePolicy.REPLACE
        entered = upsert(processed_files).from_select(
            ["tenant_id", "ingestion_id", "path", "replaces", "status", "size_bytes", "etag", "modified_at"],
            select(
                literal(self._scope.tenant_id),
                self._ingestion(ingestion_id),
                listed.c.path,
                literal(replaces),
                literal(FileStatus.PENDING, _STATUS),
                listed.c.size_bytes,
                listed.c.etag,
                listed.c.modified_at,
            ).where(self._ingestion(ingestion_id).is_not(None)),
        )
        statement = entered.on_conflict_do_update(
            index_elements=["ingestion_id", "path"],
            index_where=processed_files.c.current,
            set_={
                "replaces": processed_files.c.replaces if changed_files is ChangedFilePolicy.IGNORE else literal(replaces),
                "status": literal(FileStatus.PENDING, _STATUS),
                "size_bytes": entered.excluded.size_bytes,
                "etag": entered.excluded.etag,
                "modified_at": entered.excluded.modified_at,
                "retry_count": 0,
                "next_retry_at": None,
                "error_message": None,
                "schema_change_id": None,
            },
            where=and_(processed_files.c.status.in_(UNLOADED_FILE), processed_files.c.etag != entered.excluded.etag),
        )
        # A row that the statement has inserted, and not updated, has no deleting transaction: xmax is 0.
        inserted: Sequence[bool] = (await self._scope.connection.scalars(statement.returning(literal_column("xmax = 0")))).all()
        new = sum(inserted) - followed
        return Discovered(new=new, changed=len(inserted) - new)

    async def requeue_due_failures(
        self, ingestion_id: UUID, *, max_retries: int, after: int = 0, limit: int = FILES_AT_ONCE
    ) -> Sequence[int]:
        due = [processed_files.c.ingestion_id == ingestion_id, *_due(max_retries)]
        return await self._step(due, after, limit, status=FileStatus.PENDING, next_retry_at=None)

    async def any_waiting(self, ingestion_id: UUID, *, max_retries: int) -> bool:
        failed = select(literal(1)).where(
            processed_files.c.ingestion_id == self._ingestion(ingestion_id), processed_files.c.current, *_due(max_retries)
        )
        pending = self._pending(ingestion_id, literal(1))
        return bool(await self._scope.connection.scalar(select(or_(pending.exists(), failed.exists()))))

    async def count_pending(self, ingestion_id: UUID, *, at_most: int, assigned_to: UUID | None = None) -> int:
        waiting = self._pending(ingestion_id, literal(1), assigned_to=assigned_to).limit(at_most).subquery()
        return await self._scope.connection.scalar(select(func.count()).select_from(waiting)) or 0

    async def assign_unloaded(
        self, ingestion_id: UUID, *, of_run: UUID, to_run: UUID, after: int = 0, limit: int = FILES_AT_ONCE
    ) -> Sequence[int]:
        attempted = (
            select(literal(1))
            .where(self._scope.owns(file_attempts), file_attempts.c.file_id == processed_files.c.id, file_attempts.c.run_id == of_run)
            .correlate(processed_files)
            .exists()
        )
        ended_at = select(runs.c.ended_at).where(self._scope.owns(runs), runs.c.id == of_run).scalar_subquery()
        left = [
            processed_files.c.ingestion_id == ingestion_id,
            # Each of the two has an index of its own, and a list of both would have none.
            or_(_is(FileStatus.PENDING), _is(FileStatus.FAILED)),
            or_(
                processed_files.c.run_id == of_run,
                and_(_is(FileStatus.PENDING), processed_files.c.discovered_at <= ended_at),
                attempted,
            ),
        ]
        return await self._step(left, after, limit, status=FileStatus.PENDING, run_id=to_run, next_retry_at=None)

    async def requeue(self, selection: FileSelection, *, after: int = 0, limit: int = FILES_AT_ONCE) -> Sequence[int]:
        selected = self._selected(selection, FileStatus.PENDING)
        return await self._step(selected, after, limit, ActivityKind.FILES_RETRIED, status=FileStatus.PENDING, next_retry_at=None)

    async def skip(self, selection: FileSelection, *, reason: str, after: int = 0, limit: int = FILES_AT_ONCE) -> Sequence[int]:
        return await self._step(
            self._selected(selection, FileStatus.SKIPPED),
            after,
            limit,
            ActivityKind.FILES_SKIPPED,
            status=FileStatus.SKIPPED,
            error_message=reason,
            schema_change_id=None,
            next_retry_at=None,
            processed_at=func.now(),
        )

    async def claim(
        self, batch: Batch, *, max_files: int, max_bytes: int, at_least_one: bool = True, assigned_to: UUID | None = None
    ) -> Sequence[ClaimedFile]:
        # The bytes are summed outside the locking query, which may not use window functions. Files locked but not taken
        # are free again when the transaction ends.
        locked = (
            self._pending(batch.ingestion_id, processed_files.c.id, processed_files.c.size_bytes, assigned_to=assigned_to)
            .order_by(processed_files.c.id)
            .limit(max_files)
            .with_for_update(skip_locked=True)
            .cte("locked")
        )
        summed = select(
            locked.c.id, locked.c.size_bytes, func.sum(locked.c.size_bytes).over(order_by=locked.c.id).label("sum_bytes")
        ).subquery()
        fits = summed.c.sum_bytes <= max_bytes
        first = summed.c.sum_bytes == summed.c.size_bytes
        taken = select(summed.c.id).where(or_(fits, first) if at_least_one else fits).subquery()
        return await self._take(ClaimedFile, batch, processed_files.c.id == taken.c.id)

    async def claim_paths(self, batch: Batch, paths: Collection[str]) -> Sequence[ClaimedFile]:
        asked = _unnest(path=(Text(), list(paths)))
        return await self._take(
            ClaimedFile,
            batch,
            and_(
                processed_files.c.ingestion_id == batch.ingestion_id,
                processed_files.c.current,
                processed_files.c.path == asked.c.path,
                _is(FileStatus.PENDING),
            ),
        )

    async def lock_file_for_processing(self, batch: Batch, object: StoredObject) -> ProcessedFile | None:
        await self.record_discovered(batch.ingestion_id, [object])
        taken = await self.claim_paths(batch, [object.path])
        return await self.get_by_path(batch.ingestion_id, object.path) if taken else None

    async def get_replaced(self, batch: Batch) -> Replaced:
        mine, earlier = processed_files.alias("mine"), processed_files.alias("earlier")
        statement = (
            select(earlier.c.path, func.array_agg(earlier.c.batch_id.distinct()))
            .join_from(mine, earlier, and_(earlier.c.ingestion_id == mine.c.ingestion_id, earlier.c.path == mine.c.path))
            .where(
                self._scope.owns(mine),
                mine.c.batch_id == batch.id,
                mine.c.status == literal(FileStatus.PROCESSING, _STATUS, literal_execute=True),
                mine.c.replaces,
                *self._in_table(earlier, batch.ingestion_id),
                earlier.c.rows > 0,
            )
            .group_by(earlier.c.path)
        )
        return {path: frozenset(batches) for path, batches in (await self._scope.connection.execute(statement)).all()}

    async def supersede(self, batch: Batch, file_ids: Sequence[int]) -> int:
        mine = processed_files.alias("mine")
        earlier = (
            self._scope.update(processed_files)
            .where(
                self._scope.owns(mine),
                mine.c.id == func.any(bindparam(None, list(file_ids), type_=ARRAY(BigInteger))),
                mine.c.ingestion_id == batch.ingestion_id,
                processed_files.c.ingestion_id == mine.c.ingestion_id,
                processed_files.c.path == mine.c.path,
                ~processed_files.c.current,
                _is(FileStatus.SUCCESS),
            )
            .values(status=FileStatus.SUPERSEDED)
        )
        return await self._scope.changed(earlier)

    async def get_earlier_versions(self, ingestion_id: UUID, path: str, *, limit: int) -> Sequence[ProcessedFile]:
        statement = self._scope.select(ProcessedFile).where(
            processed_files.c.ingestion_id == ingestion_id, ~processed_files.c.current, processed_files.c.path == path
        )
        return await self._scope.all(ProcessedFile, statement.order_by(processed_files.c.id.desc()).limit(limit))

    async def rows_of_earlier_versions(self, ingestion_id: UUID, paths: Collection[str]) -> Mapping[str, int]:
        asked = _unnest(path=(Text(), list(paths)))
        statement = (
            select(asked.c.path, cast(func.sum(processed_files.c.rows), BigInteger))
            .join(processed_files, processed_files.c.path == asked.c.path)
            .where(*self._in_table(processed_files, ingestion_id))
            .group_by(asked.c.path)
        )
        found: Sequence[tuple[str, int]] = [tuple(row) for row in (await self._scope.connection.execute(statement)).all()]
        return dict(found)

    async def get_processed_file_paths(self, ingestion_id: UUID, paths: Collection[str]) -> set[str]:
        asked = _unnest(path=(Text(), list(paths)))
        done = select(asked.c.path).join(
            processed_files,
            and_(
                processed_files.c.ingestion_id == self._ingestion(ingestion_id),
                processed_files.c.current,
                processed_files.c.path == asked.c.path,
                processed_files.c.status.in_(DONE_FILE),
            ),
        )
        return set((await self._scope.connection.scalars(done)).all())

    async def get_known_paths(self, ingestion_id: UUID, paths: Collection[str]) -> set[str]:
        asked = _unnest(path=(Text(), list(paths)))
        known = select(asked.c.path).join(
            processed_files,
            and_(
                processed_files.c.ingestion_id == self._ingestion(ingestion_id),
                processed_files.c.current,
                processed_files.c.path == asked.c.path,
            ),
        )
        return set((await self._scope.connection.scalars(known)).all())

    async def get_by_path_order(self, ingestion_id: UUID, *, after: str | None, limit: int) -> Sequence[ProcessedFile]:
        statement = self._scope.select(ProcessedFile).where(processed_files.c.ingestion_id == ingestion_id, processed_files.c.current)
        if after is not None:
            statement = statement.where(processed_files.c.path > after)
        return await self._scope.all(ProcessedFile, statement.order_by(processed_files.c.path).limit(limit))

    async def get_by_path(self, ingestion_id: UUID, path: str) -> ProcessedFile | None:
        found = await self._current(ingestion_id, processed_files.c.path == path, limit=1)
        return found[0] if found else None

    async def get_processed_files(
        self, ingestion_id: UUID, *, status: Sequence[FileStatus], limit: int, after: int = 0
    ) -> Sequence[ProcessedFile]:
        return await self._current(ingestion_id, processed_files.c.status.in_(status), processed_files.c.id > after, limit=limit)

    async def get_failed_files(self, ingestion_id: UUID, *, max_retries: int, limit: int) -> Sequence[ProcessedFile]:
        retryable = processed_files.c.retry_count < max_retries
        return await self._current(ingestion_id, _is(FileStatus.FAILED), retryable, limit=limit)

    async def get_stale_processing_files(self, ingestion_id: UUID, *, limit: int) -> Sequence[ProcessedFile]:
        stale = select(batches.c.id).where(
            self._scope.owns(batches),
            batches.c.ingestion_id == ingestion_id,
            batches.c.status == BatchStatus.CLAIMED,
            batches.c.lease_expires_at <= func.clock_timestamp(),
        )
        return await self._current(ingestion_id, _is(FileStatus.PROCESSING), processed_files.c.batch_id.in_(stale), limit=limit)

    async def mark_success(self, batch: Batch, outcomes: Sequence[FileOutcome], *, snapshot_id: int | None) -> int:
        return await self._mark(
            batch,
            FileStatus.SUCCESS,
            outcomes,
            snapshot_id=snapshot_id,
            generation=select(ingestions.c.generation).where(ingestions.c.id == batch.ingestion_id).scalar_subquery(),
            error_message=None,
            next_retry_at=None,
        )

    async def mark_failed(self, batch: Batch, outcomes: Sequence[FileOutcome], *, max_retries: int, retry_base_seconds: float) -> int:
        failures = processed_files.c.retry_count + 1
        wait = func.least(
            literal(retry_base_seconds, Float) * func.pow(2.0, func.least(processed_files.c.retry_count, 30)), _LONGEST_RETRY_SECONDS
        )
        due = func.now() + cast(func.make_interval(0, 0, 0, 0, 0, 0, wait), INTERVAL)
        return await self._mark(
            batch,
            FileStatus.FAILED,
            outcomes,
            retry_count=failures,
            next_retry_at=case((failures < max_retries, due), else_=None),
        )

    async def mark_skipped(self, batch: Batch, outcomes: Sequence[FileOutcome]) -> int:
        return await self._mark(batch, FileStatus.SKIPPED, outcomes, next_retry_at=None)

    async def mark_held(self, batch: Batch, outcomes: Sequence[FileOutcome], waiting_for: Mapping[int, UUID]) -> int:
        return await self._mark(batch, FileStatus.HELD, outcomes, waiting_for=waiting_for, next_retry_at=None)

    async def release_held(
        self, ingestion_id: UUID, *, outdated: bool = False, after: int = 0, limit: int = FILES_AT_ONCE
    ) -> Sequence[int]:
        released = [processed_files.c.ingestion_id == ingestion_id, _is(FileStatus.HELD)]
        if outdated:
            newest = (
                select(func.max(schema_versions.c.created_at))
                .where(self._scope.owns(schema_versions), schema_versions.c.ingestion_id == ingestion_id)
                .scalar_subquery()
            )
            decided = select(schema_changes.c.id).where(
                self._scope.owns(schema_changes),
                schema_changes.c.ingestion_id == ingestion_id,
                schema_changes.c.decision != SchemaChangeDecision.PENDING,
            )
            released.append(or_(processed_files.c.processed_at < newest, processed_files.c.schema_change_id.in_(decided)))
        return await self._step(released, after, limit, status=FileStatus.PENDING)

    async def release(self, batch: Batch) -> int:
        statement = self._in_work(batch.id).values(status=FileStatus.PENDING, batch_id=None)
        return await self._scope.changed(statement)

    async def batch_files(self, batch_id: UUID) -> Sequence[ClaimedFile]:
        statement = self._scope.select(ClaimedFile).where(processed_files.c.batch_id == batch_id, _is(FileStatus.PROCESSING))
        return await self._scope.all(ClaimedFile, statement.order_by(processed_files.c.id))

    async def count_by_status(self, ingestion_id: UUID, *, path_prefix: str | None = None) -> Mapping[FileStatus, int]:
        if path_prefix is None:
            statement = counts_statement(self._scope.tenant_id, ingestion_id)
        else:
            statement = (
                select(processed_files.c.status, func.count())
                .where(*self._below(ingestion_id, path_prefix), processed_files.c.current)
                .group_by(processed_files.c.status)
            )
        rows: Sequence[tuple[FileStatus, int]] = [tuple(row) for row in (await self._scope.connection.execute(statement)).all()]
        return dict(rows)

    async def delete_by_ingestion(self, ingestion_id: UUID, *, path_prefix: str | None = None, limit: int | None = None) -> int:
        chosen = select(processed_files.c.id).where(*self._below(ingestion_id, path_prefix)).limit(limit)
        statement = self._scope.delete(processed_files).where(processed_files.c.id.in_(chosen))
        forgotten = await self._scope.changed(statement)
        if forgotten:
            self._scope.activity.add(ActivityKind.FILES_FORGOTTEN, ingestion_id)
        return forgotten

    def _ingestion(self, ingestion_id: UUID) -> Any:
        """The ingestion's id if the tenant owns it, evaluated once: so the ledger's indexes need not carry the tenant."""
        return select(ingestions.c.id).where(self._scope.owns(ingestions), ingestions.c.id == ingestion_id).scalar_subquery()

    def _in_table(self, earlier: Any, ingestion_id: UUID) -> list[ColumnElement[bool]]:
        """Of versions that are not current, those whose rows are in the table."""
        generation = select(ingestions.c.generation).where(self._scope.owns(ingestions), ingestions.c.id == ingestion_id)
        return [
            self._scope.owns(earlier),
            earlier.c.ingestion_id == ingestion_id,
            ~earlier.c.current,
            earlier.c.status == literal(FileStatus.SUCCESS, _STATUS, literal_execute=True),
            earlier.c.generation == generation.scalar_subquery(),
        ]

    def _below(self, ingestion_id: UUID, path_prefix: str | None) -> list[ColumnElement[bool]]:
        """Of all versions of the ingestion's files, those whose path begins with the prefix."""
        conditions = [self._scope.owns(processed_files), processed_files.c.ingestion_id == ingestion_id]
        return conditions if path_prefix is None else [*conditions, starts_with(processed_files.c.path, path_prefix)]

    def _files(self, ingestion_id: UUID) -> Any:
        return self._scope.update(processed_files).where(processed_files.c.ingestion_id == ingestion_id, processed_files.c.current)

    def _pending(self, ingestion_id: UUID, *columns: Any, assigned_to: UUID | None = None) -> Select[Any]:
        pending = select(*columns).where(
            processed_files.c.ingestion_id == self._ingestion(ingestion_id),
            processed_files.c.current,
            _is(FileStatus.PENDING),
        )
        return pending if assigned_to is None else pending.where(processed_files.c.run_id == assigned_to)

    async def _step(
        self, chosen: Sequence[ColumnElement[bool]], after: int, limit: int, told: ActivityKind | None = None, /, **values: Any
    ) -> list[int]:
        """Give the values to the first `limit` of the chosen files after an id, and note it for their ingestions; their ids, by id.

        They are locked first, in this order: two who change the same files wait for one another, and never each for the other.
        """
        locked = (
            select(processed_files.c.id)
            .where(self._scope.owns(processed_files), processed_files.c.current, processed_files.c.id > after, *chosen)
            .order_by(processed_files.c.id)
            .limit(limit)
            .with_for_update()
            .cte("locked")
        )
        statement = (
            self._scope.update(processed_files)
            .where(processed_files.c.id == locked.c.id)
            .values(values)
            .returning(processed_files.c.id, processed_files.c.ingestion_id)
        )
        changed = (await self._scope.connection.execute(statement)).all()
        if told is not None:
            for ingestion_id in {ingestion_id for _, ingestion_id in changed}:
                self._scope.activity.add(told, ingestion_id)
        return sorted(id for id, _ in changed)

    def _selected(self, selection: FileSelection, to: FileStatus) -> list[ColumnElement[bool]]:
        """The selected files that a person may make `to`: not those that a worker has in hand, and what is held is

        loaded by nobody's asking but the decision that it waits for.
        """
        kept_from = {FileStatus.PROCESSING, FileStatus.HELD} if to is FileStatus.PENDING else {FileStatus.PROCESSING}
        movable = tuple(status for status in FILE.sources(to) if status not in kept_from)
        selected = [processed_files.c.status.in_(movable)]
        if selection.ids is not None:
            return [*selected, processed_files.c.id == func.any(bindparam(None, list(selection.ids), type_=ARRAY(BigInteger)))]
        return [*selected, processed_files.c.ingestion_id == selection.ingestion_id, *conditions(processed_files, selection.filter)]

    async def _current(self, ingestion_id: UUID, *conditions: ColumnElement[bool], limit: int) -> list[ProcessedFile]:
        statement = self._scope.select(ProcessedFile).where(
            processed_files.c.ingestion_id == ingestion_id, processed_files.c.current, *conditions
        )
        return await self._scope.all(ProcessedFile, statement.order_by(processed_files.c.id).limit(limit))

    async def _make_way(self, ingestion_id: UUID, changed: Sequence[StoredObject]) -> int:
        """Have loaded files whose content is new not be the current versions any more, so that others can be; how many."""
        listed = _listed(changed)
        loaded = self._files(ingestion_id).where(
            processed_files.c.path == listed.c.path, processed_files.c.etag != listed.c.etag, _is(FileStatus.SUCCESS)
        )
        return await self._scope.changed(loaded.values(current=False))

    async def _unknown_and_changed(
        self, ingestion_id: UUID, objects: Sequence[StoredObject]
    ) -> tuple[list[StoredObject], list[StoredObject]]:
        """The objects whose path the ledger does not hold, and those that it holds with another etag.

        One index-only probe per object (LATERAL leaves the planner no other way): the cost is bounded by the listing's
        chunk, whatever the size of the ledger.
        """
        listed = _unnest(path=(Text(), [o.path for o in objects]), etag=(Text(), [o.etag for o in objects]))
        held = (
            select(processed_files.c.etag)
            .where(
                processed_files.c.ingestion_id == self._ingestion(ingestion_id),
                processed_files.c.current,
                processed_files.c.path == listed.c.path,
            )
            .limit(1)
            .lateral("ledger")
        )
        fresh = (
            select(listed.c.path, held.c.etag.is_not(None))
            .join(held, true(), isouter=True)
            .where(held.c.etag.is_distinct_from(listed.c.etag))
        )
        found: Sequence[tuple[str, bool]] = [tuple(row) for row in (await self._scope.connection.execute(fresh)).all()]
        known = dict(found)
        return [o for o in objects if known.get(o.path) is False], [o for o in objects if known.get(o.path)]

    async def _take(self, entity: type[_File], batch: Batch, condition: ColumnElement[bool]) -> list[_File]:
        statement = (
            self._scope.update(processed_files)
            .where(condition)
            .values(status=FileStatus.PROCESSING, batch_id=batch.id, run_id=batch.run_id)
            .returning(*columns_of(entity))
        )
        return sorted(await self._scope.all(entity, statement), key=lambda file: file.id)

    def _in_work(self, batch_id: UUID) -> Any:
        return self._scope.update(processed_files).where(processed_files.c.batch_id == batch_id, _is(FileStatus.PROCESSING))

    async def _mark(
        self,
        batch: Batch,
        status: FileStatus,
        outcomes: Sequence[FileOutcome],
        waiting_for: Mapping[int, UUID] | None = None,
        **values: Any,
    ) -> int:
        """One statement: the files' new status and counts, and from the same rows an attempt each."""
        if not outcomes:
            return 0
        assert FILE.allows(FileStatus.PROCESSING, status)
        told = _unnest(
            id=(BigInteger(), [o.file_id for o in outcomes]),
            rows=(BigInteger(), [o.rows for o in outcomes]),
            rows_skipped=(BigInteger(), [o.rows_skipped for o in outcomes]),
            rows_rescued=(BigInteger(), [o.rows_rescued for o in outcomes]),
            message=(Message(), [o.message for o in outcomes]),
            schema_change_id=(Uuid(), [waiting_for.get(o.file_id) if waiting_for else None for o in outcomes]),
        )
        marked = (
            self._in_work(batch.id)
            .where(processed_files.c.id == told.c.id)
            .values(
                {
                    "status": status,
                    "rows": told.c.rows,
                    "rows_skipped": told.c.rows_skipped,
                    "rows_rescued": told.c.rows_rescued,
                    "error_message": told.c.message,
                    "schema_change_id": told.c.schema_change_id,
                    "processed_at": func.now(),
                }
                | values
            )
            .returning(processed_files.c.id, told.c.rows, told.c.rows_skipped, told.c.rows_rescued, told.c.message)
            .cte("marked")
        )
        attempts = insert(file_attempts).from_select(
            [
                "tenant_id",
                "ingestion_id",
                "run_id",
                "batch_id",
                "outcome",
                "file_id",
                "rows",
                "rows_skipped",
                "rows_rescued",
                "error_message",
            ],
            select(
                literal(batch.tenant_id),
                literal(batch.ingestion_id),
                literal(batch.run_id),
                literal(batch.id),
                literal(status, _STATUS),
                marked.c.id,
                marked.c.rows,
                marked.c.rows_skipped,
                marked.c.rows_rescued,
                marked.c.message,
            ),
        )
        return await self._scope.changed(attempts)


def _is(status: FileStatus) -> ColumnElement[bool]:
    """Written into the statement: a plan for any status could not use the index of one."""
    return processed_files.c.status == literal(status, _STATUS, literal_execute=True)


def _due(max_retries: int) -> tuple[ColumnElement[bool], ...]:
    """Failures whose next try is due."""
    return _is(FileStatus.FAILED), processed_files.c.retry_count < max_retries, processed_files.c.next_retry_at <= func.now()


def _unnest(**columns: tuple[Any, Sequence[object]]) -> TableValuedAlias:
    """Parallel arrays as a table, a row per element; each column is given as (type, values)."""
    arrays = [bindparam(None, values, type_=ARRAY(type)) for type, values in columns.values()]
    names = [column(name, type) for name, (type, _) in columns.items()]
    return func.unnest(*arrays).table_valued(*names, name="given").render_derived()


def _listed(objects: Sequence[StoredObject]) -> TableValuedAlias:
    return _unnest(
        path=(Text(), [o.path for o in objects]),
        size_bytes=(BigInteger(), [o.size_bytes for o in objects]),
        etag=(Text(), [o.etag for o in objects]),
        modified_at=(DateTime(timezone=True), [o.modified_at for o in objects]),
    )
