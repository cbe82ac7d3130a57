"""One factory per entity and input: valid as it is, every field overridable by name."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from domain.access.entities import ApiKey
from domain.ingestions.entities import (
    Destination,
    DiscoveryMode,
    Execution,
    FormatSpec,
    FormatType,
    Ingestion,
    IngestionStatus,
    Policies,
    Schedule,
    Source,
    SourceType,
)
from domain.ledger.entities import Batch, BatchStatus, ClaimedFile, FileStatus, ProcessedFile
from domain.notifications.entities import Webhook, WebhookEvent
from domain.notifications.events import Event
from domain.ports.engine import Column, ColumnChange, FileOutcome, OutcomeStatus, TableSchema
from domain.ports.object_store import StoredObject
from domain.runs.entities import Run, RunStatus, RunTrigger
from domain.schema_changes import SchemaChange, SchemaChangeDecision, digest_of
from domain.schema_versions import SchemaDiff, SchemaVersion
from domain.tenants import Grants, Principal, Role, Tenant

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""The moment at which everything happens unless a test says otherwise: a Monday at noon."""

BUCKET = "s3://landing/events/"

_numbers = itertools.count(1)


def a_tenant(**fields: Any) -> Tenant:
    return Tenant(
        **{
            "id": uuid4(),
            "name": f"tenant-{next(_numbers)}",
            "grants": Grants(local_roots=("/data",), namespaces=("*",), credentials=("*",)),
            "created_at": NOW,
        }
        | fields
    )


def a_principal(tenant: Tenant | None = None, **fields: Any) -> Principal:
    return Principal(**{"tenant": tenant or a_tenant(), "role": Role.ADMIN} | fields)


def an_api_key(**fields: Any) -> ApiKey:
    return ApiKey(
        **{
            "id": uuid4(),
            "tenant_id": uuid4(),
            "name": f"key {next(_numbers)}",
            "prefix": f"{next(_numbers):012x}",
            "role": Role.ADMIN,
            "created_at": NOW,
            **dict.fromkeys(("expires_at", "last_used_at", "revoked_at")),
        }
        | fields
    )


def a_webhook(**fields: Any) -> Webhook:
    return Webhook(
        **{
            "id": uuid4(),
            "tenant_id": uuid4(),
            "url": f"https://receiver.example/{next(_numbers)}",
            "events": (WebhookEvent.RUN_FAILED,),
            "created_at": NOW,
            "consecutive_failures": 0,
            **dict.fromkeys(("ingestion_id", "description", "last_attempt_at", "last_delivery_status")),
        }
        | fields
    )


def an_event(**fields: Any) -> Event:
    return Event(
        **{"id": uuid4(), "kind": WebhookEvent.RUN_FAILED, "at": NOW, "ingestion_id": uuid4(), "run_id": None, "data": {"n": 1}} | fields
    )


def a_source(**fields: Any) -> Source:
    return Source(**{"type": SourceType.S3, "path": BUCKET} | fields)


def a_notified_source(queue: str = "notifications", **fields: Any) -> Source:
    """Under EVENTS; listed every hour all the same."""
    found = {"discovery": DiscoveryMode.EVENTS, "queue": queue, "queue_id": f"fake {queue}", "list_every_seconds": 3_600}
    return a_source(**found | fields)


def a_destination(**fields: Any) -> Destination:
    return Destination(**{"catalog": "autoloader", "database": "lake", "table": f"events_{next(_numbers)}"} | fields)


def an_ingestion(**fields: Any) -> Ingestion:
    return Ingestion(
        **{
            "id": uuid4(),
            "tenant_id": uuid4(),
            "name": f"events {next(_numbers)}",
            "status": IngestionStatus.DRAFT,
            "source": a_source(),
            "format": FormatSpec(FormatType.JSON),
            "destination": a_destination(),
            "schedule": None,
            "policies": Policies(),
            "execution": Execution(),
            "checkpoint_path": "file:///checkpoints/1",
            "generation": 1,
            "reset": None,
            "version": 1,
            "consecutive_failures": 0,
            "last_run_id": None,
            "last_run_at": None,
            "next_due_at": None,
            "last_listed_at": None,
            "event_queue": None,
            "created_at": NOW,
            "updated_at": NOW,
        }
        | fields
    )


def a_schedule(**fields: Any) -> Schedule:
    return Schedule(**{"cron": "0 * * * *"} | fields)


def a_run(**fields: Any) -> Run:
    counters = dict.fromkeys(("retry_count", "files_discovered", "files_processed", "files_failed", "files_skipped", "files_held"), 0)
    counters |= dict.fromkeys(("listings", "rows_written", "rows_skipped", "rows_rescued", "bytes_processed"), 0)
    unset = ("refresh", "retry_of_id", "due_at", "started_at", "ended_at", "duration_seconds", "lease_expires_at", "files_total")
    return Run(
        **{
            "id": uuid4(),
            "tenant_id": uuid4(),
            "ingestion_id": uuid4(),
            "status": RunStatus.QUEUED,
            "trigger": RunTrigger.MANUAL,
            "lists": True,
            "queued_at": NOW,
            **dict.fromkeys((*unset, "error_message", "flow_run_id")),
            **counters,
        }
        | fields
    )


def a_batch(**fields: Any) -> Batch:
    return Batch(
        **{
            "id": uuid4(),
            "tenant_id": uuid4(),
            "ingestion_id": uuid4(),
            "run_id": uuid4(),
            "status": BatchStatus.CLAIMED,
            "epoch": 1,
            "lease_expires_at": NOW,
            "table_uuid": None,
            "snapshot_id": None,
            "files": 0,
            "created_at": NOW,
            "settled_at": None,
        }
        | fields
    )


def a_processed_file(**fields: Any) -> ProcessedFile:
    unset = ("run_id", "batch_id", "rows", "rows_skipped", "rows_rescued", "snapshot_id", "generation", "next_retry_at")
    unset += ("error_message", "schema_change_id")
    return ProcessedFile(
        **{
            "id": next(_numbers),
            "tenant_id": uuid4(),
            "ingestion_id": uuid4(),
            "path": f"{BUCKET}{next(_numbers)}.json",
            "current": True,
            "replaces": False,
            "status": FileStatus.PENDING,
            "size_bytes": 100,
            "etag": "v1",
            "modified_at": NOW,
            "retry_count": 0,
            "discovered_at": NOW,
            "processed_at": None,
            **dict.fromkeys(unset),
        }
        | fields
    )


def a_stored_object(path: str | None = None, **fields: Any) -> StoredObject:
    """`path` may be relative to the bucket's prefix."""
    name = path if path is not None else f"{next(_numbers)}.json"
    absolute = name if name.startswith(("s3://", "/")) else BUCKET + name
    return StoredObject(**{"path": absolute, "size_bytes": 100, "etag": "v1", "modified_at": NOW} | fields)


def stored_objects(count: int, **fields: Any) -> list[StoredObject]:
    return [a_stored_object(f"{number:06}.json", **fields) for number in range(count)]


def a_schema(*columns: str) -> TableSchema:
    """Columns as `name: type`, the type being long unless given."""
    pairs = (column.partition(": ") for column in columns or ("id",))
    return TableSchema(tuple(Column(name, type or "long") for name, _, type in pairs))


def a_schema_version(**fields: Any) -> SchemaVersion:
    schema = fields.get("schema", a_schema())
    return SchemaVersion(
        **{
            "id": 0,
            "tenant_id": uuid4(),
            "ingestion_id": uuid4(),
            "version": 1,
            "run_id": None,
            "schema": schema,
            "diff": SchemaDiff.between(None, schema),
            "created_at": NOW,
        }
        | fields
    )


def claimed(file: ProcessedFile) -> ClaimedFile:
    """What a load is given of it."""
    return ClaimedFile(file.id, file.path, file.replaces, file.size_bytes, file.etag, file.modified_at)


def loaded(file: ProcessedFile | ClaimedFile | int, *, rows: int = 10, **fields: Any) -> FileOutcome:
    return FileOutcome(_id(file), OutcomeStatus.LOADED, rows=rows, **fields)


def failed(file: ProcessedFile | ClaimedFile | int, message: str = "not JSON", **fields: Any) -> FileOutcome:
    return FileOutcome(_id(file), OutcomeStatus.FAILED, message=message, **fields)


def skipped(file: ProcessedFile | ClaimedFile | int, message: str = "the file is empty", **fields: Any) -> FileOutcome:
    return FileOutcome(_id(file), OutcomeStatus.SKIPPED, message=message, **fields)


def needing(file: ProcessedFile | ClaimedFile | int, *columns: str) -> FileOutcome:
    """NEEDS_APPROVAL for new columns as in `a_schema`."""
    return FileOutcome(_id(file), OutcomeStatus.NEEDS_APPROVAL, message="it waits", needs=new_columns(*columns))


def new_columns(*columns: str) -> tuple[ColumnChange, ...]:
    return tuple(ColumnChange(column.name, None, column.type) for column in a_schema(*columns or ("extra",)).columns)


def a_schema_change(**fields: Any) -> SchemaChange:
    return SchemaChange(
        **a_proposal(uuid4())
        | {
            "tenant_id": uuid4(),
            "proposed_at": NOW,
            "decision": SchemaChangeDecision.PENDING,
            **dict.fromkeys(("decided_at", "decided_by", "decision_reason")),
        }
        | fields
    )


def a_proposal(ingestion_id: UUID, **fields: Any) -> dict[str, Any]:
    """What `propose` takes."""
    changes = fields.get("changes", new_columns(f"extra_{next(_numbers)}"))
    return {
        "id": uuid4(),
        "ingestion_id": ingestion_id,
        "run_id": uuid4(),
        "digest": digest_of(changes),
        "changes": changes,
        "example_path": f"{BUCKET}new.json",
    } | fields


def a_create_input(**fields: Any) -> dict[str, Any]:
    """What a caller sends to create an ingestion; `IngestionCreate.parse` takes it."""
    return {
        "name": f"events {next(_numbers)}",
        "source": {"type": "S3", "path": BUCKET},
        "format": {"type": "JSON"},
        "destination": {"database": "lake", "table": f"events_{next(_numbers)}"},
    } | fields


def _id(file: ProcessedFile | ClaimedFile | int) -> int:
    return file if isinstance(file, int) else file.id
