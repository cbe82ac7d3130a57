"""What is worth telling a webhook of, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from domain.ingestions.entities import Ingestion
from domain.notifications.entities import Webhook, WebhookEvent
from domain.runs.entities import Run, RunStatus
from domain.schema_changes import SchemaChange
from domain.schema_versions import SchemaDiff, SchemaVersion

NAMED_COLUMNS = 50
"""Of longer lists of columns no more are told: bodies are to stay small."""

_OF_RUNS = {RunStatus.FAILED: WebhookEvent.RUN_FAILED, RunStatus.PARTIAL: WebhookEvent.RUN_PARTIAL}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened. `data` is what a body tells of it beside ids: JSON values, by the body's own names."""

    id: UUID
    kind: WebhookEvent
    at: datetime
    ingestion_id: UUID | None
    run_id: UUID | None
    data: Mapping[str, Any]


def run_ended(ingestion: Ingestion, run: Run, *, at: datetime) -> Event | None:
    """RUN_FAILED or RUN_PARTIAL; None for an end that nobody has to be told of."""
    kind = _OF_RUNS.get(run.status)
    return None if kind is None else _event(kind, at, ingestion, run.id, run=_run(run))


def ingestion_failed(ingestion: Ingestion, run: Run, *, failures: int, at: datetime) -> Event:
    """INGESTION_ERROR: the run was the last of so many in a row that failed."""
    return _event(WebhookEvent.INGESTION_ERROR, at, ingestion, run.id, run=_run(run), consecutiveFailures=failures)


def schema_changed(ingestion: Ingestion, version: SchemaVersion) -> Event:
    return _event(
        WebhookEvent.SCHEMA_CHANGED,
        version.created_at,
        ingestion,
        version.run_id,
        schema={"version": version.version} | _columns(version.diff),
    )


def schema_change_proposed(ingestion: Ingestion, change: SchemaChange) -> Event:
    schema = _columns(change.diff) | {"examplePath": change.example_path}
    return _event(WebhookEvent.SCHEMA_CHANGE_PROPOSED, change.proposed_at, ingestion, change.run_id, schema=schema)


def _columns(diff: SchemaDiff) -> dict[str, object]:
    return {
        "added": [{"name": column.name, "type": column.type} for column in diff.added[:NAMED_COLUMNS]],
        "removed": [{"name": column.name, "type": column.type} for column in diff.removed[:NAMED_COLUMNS]],
        "changed": [{"name": change.column, "before": change.before, "after": change.after} for change in diff.changed[:NAMED_COLUMNS]],
        "complete": max(len(diff.added), len(diff.removed), len(diff.changed)) <= NAMED_COLUMNS,
    }


def data_late(ingestion: Ingestion, *, at: datetime) -> Event:
    return _event(WebhookEvent.DATA_LATE, at, ingestion, None, lateAfterSeconds=ingestion.policies.late_after_seconds)


def trial(webhook: Webhook, *, at: datetime) -> Event:
    """TEST, for that webhook alone."""
    return Event(uuid4(), WebhookEvent.TEST, at, webhook.ingestion_id, None, {})


def _event(kind: WebhookEvent, at: datetime, ingestion: Ingestion, run_id: UUID | None, **data: object) -> Event:
    return Event(uuid4(), kind, at, ingestion.id, run_id, {"ingestion": {"name": ingestion.name}} | data)


def _run(run: Run) -> dict[str, object]:
    return {
        "status": run.status.value,
        "trigger": run.trigger.value,
        "filesProcessed": run.files_processed,
        "filesFailed": run.files_failed,
        "rowsWritten": run.rows_written,
        "errorMessage": run.error_message,
    }
