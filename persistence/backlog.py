"""The backlog in one statement, whose cost is bounded whatever the ledger's size."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.backlog import COUNT_AT_MOST, Backlog
from domain.states import ACTIVE_RUN
from persistence.database import connection
from persistence.wakeup import BACKGROUND_LOCK

# Statuses are written out, so that the partial indexes serve. The longest waiting file of an ingestion is its first by id.
_BACKLOG = text("""
    SELECT
        (SELECT count(*) FROM (
            SELECT 1 FROM processed_files WHERE status = 'PENDING' ORDER BY ingestion_id, id LIMIT :at_most
        ) AS waiting) AS pending,
        (SELECT count(*) FILTER (WHERE next_retry_at IS NOT NULL) FROM (
            SELECT next_retry_at FROM processed_files WHERE status = 'FAILED' ORDER BY ingestion_id, id LIMIT :at_most
        ) AS failed) AS waiting_for_retry,
        (SELECT coalesce(extract(epoch FROM now() - min(first.since)), 0)::float8
            FROM (SELECT id FROM ingestions WHERE status NOT IN ('PAUSED', 'DELETING') LIMIT :at_most) AS working
            CROSS JOIN LATERAL (
                SELECT greatest(discovered_at, processed_at) AS since FROM processed_files
                WHERE ingestion_id = working.id AND status = 'PENDING' ORDER BY id LIMIT 1
            ) AS first) AS lag_seconds,
        (SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT :at_most) AS entries) AS outbox_entries,
        (SELECT coalesce(extract(epoch FROM now() - min(due_at)), 0)::float8
            FROM outbox WHERE due_at <= now() AND topic <> 'TABLE') AS outbox_overdue_seconds,
        (SELECT array_agg(status) FROM (
            SELECT status FROM runs WHERE status IN ('QUEUED', 'RUNNING', 'CANCELLING') LIMIT :at_most
        ) AS active) AS active_runs,
        queues.messages AS queue_messages, queues.dead_letters, queues.unavailable AS queues_unavailable,
        EXISTS (
            SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND objsubid = 1
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND classid = CAST(:lock_high AS oid) AND objid = CAST(:lock_low AS oid)
        ) AS background_owned
    FROM (
        SELECT
            coalesce(sum(CAST(event_queue ->> 'waiting' AS bigint)), 0)::bigint AS messages,
            coalesce(sum(CAST(event_queue ->> 'dead_letters' AS bigint)), 0)::bigint AS dead_letters,
            count(event_queue ->> 'problem') AS unavailable
        FROM (SELECT event_queue FROM ingestions WHERE queue_key IS NOT NULL AND status = 'ACTIVE' LIMIT :at_most) AS listening
    ) AS queues
""")

# How pg_locks shows it: in halves.
_LOCK = {"lock_high": BACKGROUND_LOCK >> 32, "lock_low": BACKGROUND_LOCK & 0xFFFFFFFF}


async def read_backlog(database: AsyncEngine) -> Backlog:
    """`database` acts for nobody, and sees all tenants' rows. Raises `UnavailableError`."""
    async with connection(database.execution_options(isolation_level="AUTOCOMMIT")) as opened:
        told = (await opened.execute(_BACKLOG, {"at_most": COUNT_AT_MOST, **_LOCK})).one()
    active = told.active_runs or []
    return Backlog(
        pending=told.pending,
        waiting_for_retry=told.waiting_for_retry,
        lag_seconds=told.lag_seconds,
        outbox_entries=told.outbox_entries,
        outbox_overdue_seconds=told.outbox_overdue_seconds,
        active_runs={status: active.count(status.value) for status in ACTIVE_RUN},
        background_owned=told.background_owned,
        queue_messages=told.queue_messages,
        dead_letters=told.dead_letters,
        queues_unavailable=told.queues_unavailable,
    )
