"""SQL for sums over an ingestion's files and runs. A statement serves any number of ingestions, and none of them scans the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Float,
    Select,
    Uuid,
    and_,
    bindparam,
    cast,
    column,
    delete,
    false,
    func,
    insert,
    literal,
    select,
    text,
    true,
    union_all,
)

from domain.ledger.entities import FileStatus
from domain.runs.entities import RunStatus
from persistence.tables import file_count_changes, ingestions, processed_files, runs

COUNTED = ("files", "size_bytes", "rows", "rows_skipped", "rows_rescued")
"""What is summed of files, as `FileCount` names it."""


def stats_statement(tenant_id: UUID, ingestion_ids: Sequence[UUID]) -> Select[Any]:
    """Rows of: the ingestion's place in `ingestion_ids` (from 1), when its oldest waiting file was discovered, when a run ended

    SUCCESS last, a status, whether its files are absent by a refresh, whether they are earlier versions, and their sums (`COUNTED`).
    A row for each status in which there are files (up to four for SUCCESS), one without a status for an ingestion that has none.
    """
    given = _given(ingestion_ids)
    waiting = (
        select(processed_files.c.discovered_at)
        .where(
            processed_files.c.tenant_id == tenant_id,
            processed_files.c.ingestion_id == given.c.id,
            processed_files.c.current,
            processed_files.c.status == _written(FileStatus.PENDING, processed_files),
        )
        .order_by(processed_files.c.id)
        .limit(1)
        .correlate(given)
        .scalar_subquery()
    )
    success = (
        select(runs.c.ended_at)
        .where(runs.c.tenant_id == tenant_id, runs.c.ingestion_id == given.c.id, runs.c.status == RunStatus.SUCCESS)
        .order_by(runs.c.queued_at.desc(), runs.c.id.desc())
        .limit(1)
        .correlate(given)
        .scalar_subquery()
    )
    generation = (
        select(ingestions.c.generation)
        .where(ingestions.c.tenant_id == tenant_id, ingestions.c.id == given.c.id)
        .correlate(given)
        .scalar_subquery()
    )
    told = select(
        given.c.place, given.c.id, generation.label("generation"), waiting.label("oldest_waiting_at"), success.label("last_success_at")
    ).cte("told")
    changes = file_count_changes.c
    absent = changes.generation.is_not(None) & (changes.generation != told.c.generation)
    counts = (
        select(changes.status, func.coalesce(absent, false()).label("absent"), changes.earlier, *_sums(file_count_changes))
        .where(changes.tenant_id == tenant_id, changes.ingestion_id == told.c.id)
        .group_by(changes.status, text("2"), changes.earlier)
        .having(func.sum(changes.files) != 0)
        .correlate(told)
        .lateral("counts")
    )
    return select(told.c.place, told.c.oldest_waiting_at, told.c.last_success_at, *counts.c).join(counts, true(), isouter=True)


def counts_statement(tenant_id: UUID, ingestion_id: UUID) -> Select[Any]:
    """Rows of: a status in which the ingestion has current versions of files, and how many."""
    changes = file_count_changes.c
    counted = cast(func.sum(changes.files), BigInteger)
    return (
        select(changes.status, counted)
        .where(
            changes.tenant_id == tenant_id,
            changes.ingestion_id == ingestion_id,
            ~changes.earlier,
            changes.status != FileStatus.SUPERSEDED,
        )
        .group_by(changes.status)
        .having(counted != 0)
    )


def run_totals_statement(tenant_id: UUID, ingestion_ids: Sequence[UUID], since: datetime, until: datetime) -> Select[Any]:
    """Rows of: the ingestion's place in `ingestion_ids` (from 1), the sums that `RunTotals` has, in its order."""
    given = _given(ingestion_ids)
    settled = runs.c.files_processed + runs.c.files_failed + runs.c.files_skipped + runs.c.files_held
    sums = (
        select(
            func.count().label("runs"),
            func.coalesce(func.sum(runs.c.duration_seconds), literal(0.0, Float)).label("seconds"),
            *(
                cast(func.coalesce(func.sum(counter), 0), BigInteger).label(name)
                for name, counter in {
                    "listings": runs.c.listings,
                    "files_read": settled,
                    "files_loaded": runs.c.files_processed,
                    "bytes_loaded": runs.c.bytes_processed,
                }.items()
            ),
        )
        .where(
            runs.c.tenant_id == tenant_id,
            runs.c.ingestion_id == given.c.id,
            runs.c.queued_at >= since,
            runs.c.queued_at < until,
            runs.c.ended_at.is_not(None),
        )
        .correlate(given)
        .lateral("sums")
    )
    return select(given.c.place, *sums.c).join(sums, true())


def compaction_statement(limit: int) -> Select[Any]:
    """Put sums in the place of at most `limit` changes and of the earlier sums that they belong to; how many changes that were.

    One statement sees all of it or none, so whoever reads the counts meanwhile finds the same. Changes that another compaction
    has in hand are left to it.
    """
    changes = file_count_changes.c
    fresh = (
        select(changes.id, changes.ingestion_id, changes.status)
        .where(~changes.summed)
        .order_by(changes.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("fresh")
    )
    pairs = select(fresh.c.ingestion_id, fresh.c.status).distinct().cte("pairs")
    earlier = (
        select(changes.id)
        .join(pairs, and_(changes.ingestion_id == pairs.c.ingestion_id, changes.status == pairs.c.status))
        .where(changes.summed)
        .order_by(changes.id)
        .with_for_update(skip_locked=True, of=file_count_changes)
        .cte("earlier")
    )
    taken = union_all(select(fresh.c.id), select(earlier.c.id)).subquery("taken")
    gone = delete(file_count_changes).where(changes.id == taken.c.id).returning(*changes).cte("gone")
    names = ("tenant_id", "ingestion_id", "status", "generation", "earlier")
    whose = [gone.c[name] for name in names]
    sums = _sums(gone)
    summed = insert(file_count_changes).from_select(
        [*names, *COUNTED, "summed"],
        select(*whose, *sums, true()).group_by(*whose).having(func.num_nonnulls(*(func.nullif(total, 0) for total in sums)) > 0),
    )
    return select(func.count()).select_from(fresh).add_cte(summed.cte("summed"))


def _sums(counts: Any) -> list[Any]:
    return [cast(func.sum(counts.c[name]), BigInteger).label(name) for name in COUNTED]


def _written(status: FileStatus, table: Any) -> Any:
    """Written into the statement: a plan for any status could not use the index of one."""
    return literal(status, table.c.status.type, literal_execute=True)


def _given(ids: Sequence[UUID]) -> Any:
    values = bindparam(None, list(ids), type_=ARRAY(Uuid()))
    return func.unnest(values).table_valued(column("id", Uuid()), with_ordinality="place", name="given").render_derived()
