"""The tables. A column is named like the attribute of the entity that it holds; every tenant-owned row carries its tenant."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.activity.entities import ActivityKind
from domain.ingestions.entities import (
    Destination,
    EventQueueState,
    Execution,
    FormatSpec,
    IngestionStatus,
    Policies,
    Reset,
    Schedule,
    Source,
)
from domain.ledger.entities import BatchStatus, FileStatus
from domain.notifications.entities import DeliveryStatus, WebhookEvent
from domain.ports.engine import ColumnChange, TableSchema
from domain.ports.unit_of_work import Topic
from domain.runs.entities import Refresh, RunStatus, RunTrigger
from domain.schema_changes import SchemaChangeDecision
from domain.schema_versions import SchemaDiff
from domain.states import ACTIVE_RUN
from domain.tenants import Grants, Role
from persistence.types import EnumText, Message, ValueObject, enum_column, one_of

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_NOW = func.now()


def _moment(name: str, *, nullable: bool = False, default_now: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=_NOW if default_now else None)


def _tenant() -> Column[object]:
    return Column("tenant_id", Uuid, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False)


def _ingestion(table: str) -> tuple[Column[object], Column[object], ForeignKeyConstraint]:
    """The row belongs to the ingestion, and so to the ingestion's tenant: the database lets no row say otherwise."""
    owner = ForeignKeyConstraint(
        ["tenant_id", "ingestion_id"], ["ingestions.tenant_id", "ingestions.id"], name=f"fk_{table}_ingestion", ondelete="CASCADE"
    )
    return Column("tenant_id", Uuid, nullable=False), Column("ingestion_id", Uuid, nullable=False), owner


def _count(name: str, type: type[Integer | BigInteger] = Integer) -> Column[object]:
    return Column(name, type, nullable=False, server_default=text("0"))


tenants = Table(
    "tenants",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("grants", ValueObject(Grants), nullable=False),
    _moment("created_at", default_now=True),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True),
    Column("digest", LargeBinary, nullable=False),
    enum_column("role", Role),
    _moment("created_at", default_now=True),
    _moment("expires_at", nullable=True),
    _moment("last_used_at", nullable=True),
    _moment("revoked_at", nullable=True),
    one_of("role", Role),
    Index("ix_api_keys_newest", "tenant_id", "created_at", "id"),
)

ingestions = Table(
    "ingestions",
    metadata,
    Column("id", Uuid, primary_key=True),
    _tenant(),
    Column("name", Text(collation="C"), nullable=False),
    enum_column("status", IngestionStatus),
    Column("source", ValueObject(Source), nullable=False),
    Column("format", ValueObject(FormatSpec), nullable=False),
    Column("destination", ValueObject(Destination), nullable=False),
    Column("destination_key", Text, nullable=False),
    Column("schedule", ValueObject(Schedule)),
    Column("policies", ValueObject(Policies), nullable=False),
    Column("execution", ValueObject(Execution), nullable=False),
    Column("checkpoint_path", Text, nullable=False),
    Column("table_uuid", Uuid),
    # How many the table had when a batch was marked last; NULL before the first.
    Column("snapshots_seen", Integer),
    Column("generation", Integer, nullable=False),
    Column("reset", ValueObject(Reset)),
    Column("version", Integer, nullable=False),
    _count("consecutive_failures"),
    Column("last_run_id", Uuid),
    _moment("last_run_at", nullable=True),
    _moment("next_due_at", nullable=True),
    # When data count as late unless some come; NULL when that is not asked for, or has been told.
    _moment("late_at", nullable=True),
    _moment("last_listed_at", nullable=True),
    Column("queue_key", Text),
    Column("event_queue", ValueObject(EventQueueState)),
    _moment("created_at", default_now=True),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_NOW, onupdate=func.clock_timestamp()),
    one_of("status", IngestionStatus),
    UniqueConstraint("tenant_id", "name", name="uq_ingestions_name"),
    # What a row that belongs to an ingestion refers to.
    UniqueConstraint("tenant_id", "id", name="uq_ingestions_id_of_tenant"),
    # Across all tenants: a table belongs to one ingestion.
    UniqueConstraint("destination_key", name="uq_ingestions_destination"),
    # And so does a queue: a message that one has taken is not there for another.
    UniqueConstraint("queue_key", name="uq_ingestions_queue"),
    Index("ix_ingestions_newest", "tenant_id", "created_at", "id"),
    Index("ix_ingestions_due", "next_due_at", postgresql_where=text("status = 'ACTIVE'")),
    Index("ix_ingestions_listening", "id", postgresql_where=text("status = 'ACTIVE' AND queue_key IS NOT NULL")),
    Index("ix_ingestions_late", "late_at", postgresql_where=text("status = 'ACTIVE' AND late_at IS NOT NULL")),
)

_ACTIVE_RUNS = text(f"status IN ({', '.join(repr(status.value) for status in ACTIVE_RUN)})")

runs = Table(
    "runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    *_ingestion("runs"),
    enum_column("status", RunStatus),
    enum_column("trigger", RunTrigger),
    Column("refresh", ValueObject(Refresh)),
    Column("retry_of_id", Uuid),
    _count("retry_count"),
    Column("lists", Boolean, nullable=False, server_default=text("true")),
    _count("listings"),
    _moment("due_at", nullable=True),
    _moment("queued_at", default_now=True),
    _moment("started_at", nullable=True),
    _moment("ended_at", nullable=True),
    Column("duration_seconds", Double),
    _moment("lease_expires_at", nullable=True),
    Column("files_total", Integer),
    _count("files_discovered"),
    _count("files_processed"),
    _count("files_failed"),
    _count("files_skipped"),
    _count("files_held"),
    _count("rows_written", BigInteger),
    _count("rows_skipped", BigInteger),
    _count("rows_rescued", BigInteger),
    _count("bytes_processed", BigInteger),
    Column("error_message", Message),
    Column("flow_run_id", Text),
    one_of("status", RunStatus),
    one_of("trigger", RunTrigger),
    Index("uq_runs_active", "ingestion_id", unique=True, postgresql_where=_ACTIVE_RUNS),
    UniqueConstraint("ingestion_id", "due_at", name="uq_runs_due"),
    Index("uq_runs_flow_run", "flow_run_id", unique=True, postgresql_where=text("flow_run_id IS NOT NULL")),
    Index("ix_runs_newest", "tenant_id", "queued_at", "id"),
    Index("ix_runs_of_ingestion", "ingestion_id", "queued_at", "id"),
    # The few that failed, or are active, among the many that did not or are not.
    Index("ix_runs_by_status", "tenant_id", "status", "queued_at", "id"),
    Index("ix_runs_of_ingestion_by_status", "ingestion_id", "status", "queued_at", "id"),
    Index("ix_runs_lease", "lease_expires_at", postgresql_where=_ACTIVE_RUNS),
)

batches = Table(
    "batches",
    metadata,
    Column("id", Uuid, primary_key=True),
    *_ingestion("batches"),
    Column("run_id", Uuid, nullable=False),
    enum_column("status", BatchStatus),
    Column("epoch", Integer, nullable=False),
    _moment("lease_expires_at"),
    Column("table_uuid", Uuid),
    Column("snapshot_id", BigInteger),
    _count("files"),
    _moment("created_at", default_now=True),
    _moment("settled_at", nullable=True),
    one_of("status", BatchStatus),
    Index("ix_batches_of_ingestion", "ingestion_id"),
    Index("ix_batches_lease", "lease_expires_at", postgresql_where=text("status = 'CLAIMED'")),
)

processed_files = Table(
    "processed_files",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    *_ingestion("processed_files"),
    # Bytewise order: prefixes can use the index, and comparing costs least.
    Column("path", Text(collation="C"), nullable=False),
    Column("current", Boolean, nullable=False, server_default=text("true")),
    Column("replaces", Boolean, nullable=False, server_default=text("false")),
    enum_column("status", FileStatus),
    Column("size_bytes", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    _moment("modified_at"),
    Column("run_id", Uuid),
    Column("batch_id", Uuid),
    Column("rows", BigInteger),
    Column("rows_skipped", BigInteger),
    Column("rows_rescued", BigInteger),
    Column("snapshot_id", BigInteger),
    Column("generation", Integer),
    _count("retry_count"),
    _moment("next_retry_at", nullable=True),
    Column("error_message", Message),
    # No foreign key: its checks would lock the change after the file, and whoever decides locks them in the other order.
    Column("schema_change_id", Uuid),
    _moment("discovered_at", default_now=True),
    _moment("processed_at", nullable=True),
    one_of("status", FileStatus),
    # The etag is carried along so that a listing of known files is answered by the index alone.
    Index("uq_processed_files_current", "ingestion_id", "path", unique=True, postgresql_where=text("current"), postgresql_include=["etag"]),
    Index("ix_processed_files_earlier", "ingestion_id", "path", "id", postgresql_where=text("NOT current")),
    # Of all versions, so that an ingestion's files can be deleted by it.
    Index("ix_processed_files_of_ingestion", "ingestion_id", "id"),
    Index("ix_processed_files_pending", "ingestion_id", "id", postgresql_where=text("status = 'PENDING'")),
    Index("ix_processed_files_failed", "ingestion_id", "id", postgresql_where=text("status = 'FAILED'")),
    Index("ix_processed_files_in_work", "batch_id", "id", postgresql_where=text("status = 'PROCESSING'")),
    Index("ix_processed_files_held", "ingestion_id", "id", postgresql_where=text("status = 'HELD'")),
    Index("ix_processed_files_of_schema_change", "schema_change_id", "id", postgresql_where=text("schema_change_id IS NOT NULL")),
)

# The ledger's counts: their sum by ingestion and status is what a GROUP BY over the ledger would give. Triggers of
# `processed_files` add a row per statement; nobody waits for anybody else's. No foreign keys: their checks would lock the
# ingestion after its files, and whoever deletes an ingestion locks them in the other order.
file_count_changes = Table(
    "file_count_changes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("ingestion_id", Uuid, nullable=False),
    enum_column("status", FileStatus),
    # In which the loaded ones were loaded; NULL for the other statuses.
    Column("generation", Integer),
    # Whether they are loaded versions that are not the current ones of their paths.
    Column("earlier", Boolean, nullable=False, server_default=text("false")),
    Column("files", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("rows_skipped", BigInteger, nullable=False),
    Column("rows_rescued", BigInteger, nullable=False),
    # Whether the row is a sum of earlier ones.
    Column("summed", Boolean, nullable=False, server_default=text("false")),
    Index("ix_file_count_changes_of_ingestion", "ingestion_id", "status"),
    Index("ix_file_count_changes_fresh", "id", postgresql_where=text("NOT summed")),
)

file_attempts = Table(
    "file_attempts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _tenant(),
    Column("ingestion_id", Uuid, nullable=False),
    Column("run_id", Uuid, nullable=False),
    Column("file_id", BigInteger, ForeignKey("processed_files.id", ondelete="CASCADE"), nullable=False),
    Column("batch_id", Uuid, nullable=False),
    enum_column("outcome", FileStatus),
    Column("rows", BigInteger, nullable=False),
    Column("rows_skipped", BigInteger, nullable=False),
    Column("rows_rescued", BigInteger, nullable=False),
    Column("error_message", Message),
    _moment("attempted_at", default_now=True),
    one_of("outcome", FileStatus),
    Index("ix_file_attempts_of_run", "run_id", "id"),
    Index("ix_file_attempts_of_file", "file_id", "id"),
)

schema_versions = Table(
    "schema_versions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    *_ingestion("schema_versions"),
    Column("version", Integer, nullable=False),
    Column("run_id", Uuid),
    Column("schema", ValueObject(TableSchema), nullable=False),
    Column("diff", ValueObject(SchemaDiff), nullable=False),
    _moment("created_at", default_now=True),
    UniqueConstraint("ingestion_id", "version", name="uq_schema_versions_version"),
)

_OPEN_CHANGES = text("decision = 'PENDING'")

schema_changes = Table(
    "schema_changes",
    metadata,
    Column("id", Uuid, primary_key=True),
    *_ingestion("schema_changes"),
    Column("run_id", Uuid),
    Column("digest", Text, nullable=False),
    Column("changes", ValueObject(tuple[ColumnChange, ...]), nullable=False),
    Column("example_path", Text, nullable=False),
    Column("proposed_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    enum_column("decision", SchemaChangeDecision),
    _moment("decided_at", nullable=True),
    Column("decided_by", Message),
    Column("decision_reason", Message),
    one_of("decision", SchemaChangeDecision),
    Index("uq_schema_changes_open", "ingestion_id", "digest", unique=True, postgresql_where=_OPEN_CHANGES),
    Index("ix_schema_changes_of_ingestion", "ingestion_id", "proposed_at", "id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _tenant(),
    enum_column("topic", Topic),
    Column("subject_id", Uuid, nullable=False),
    # Rises each time that the subject is to be looked at again, so that a look that began earlier does not count as this one.
    Column("revision", Integer, nullable=False, server_default=text("1")),
    _moment("created_at", default_now=True),
    _moment("due_at", default_now=True),
    _count("attempts"),
    Column("last_error", Message),
    one_of("topic", Topic),
    UniqueConstraint("tenant_id", "subject_id", "topic", name="uq_outbox_subject"),
    Index("ix_outbox_due", "due_at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    _moment("created_at", default_now=True),
    Index("ix_idempotency_keys_oldest", "created_at"),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _tenant(),
    _moment("at", default_now=True),
    Column("actor", Message, nullable=False),
    # No foreign keys: the trail outlives what it tells of.
    Column("api_key_id", Uuid),
    Column("operation", Text, nullable=False),
    Column("subject_kind", Text),
    Column("subject_id", Uuid),
    Index("ix_audit_events_newest", "tenant_id", "id"),
    Index("ix_audit_events_of_subject", "tenant_id", "subject_id", "id"),
)

activity_events = Table(
    "activity_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _tenant(),
    # The number of the transaction that brings the row. 63 bits of PostgreSQL's 64 (xid8), so that it is an ordinary number.
    Column("transaction", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    enum_column("kind", ActivityKind),
    # No foreign keys: events outlive what they tell of, so that the place of each can be gone on from.
    Column("ingestion_id", Uuid, nullable=False),
    Column("run_id", Uuid),
    one_of("kind", ActivityKind),
    Index("ix_activity_events_in_order", "tenant_id", "transaction", "id"),
    Index("ix_activity_events_of_ingestion", "tenant_id", "ingestion_id", "transaction", "id"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Uuid, primary_key=True),
    _tenant(),
    # NULL for one that is told of all ingestions.
    Column("ingestion_id", Uuid),
    Column("url", Text, nullable=False),
    Column("description", Text),
    Column("events", ValueObject(tuple[WebhookEvent, ...]), nullable=False),
    # Sealed with a key that is not in the database.
    Column("secret", LargeBinary, nullable=False),
    _moment("created_at", default_now=True),
    _moment("last_attempt_at", nullable=True),
    Column("last_delivery_status", EnumText(DeliveryStatus)),
    _count("consecutive_failures"),
    one_of("last_delivery_status", DeliveryStatus),
    ForeignKeyConstraint(
        ["tenant_id", "ingestion_id"], ["ingestions.tenant_id", "ingestions.id"], name="fk_webhooks_ingestion", ondelete="CASCADE"
    ),
    # What a delivery refers to.
    UniqueConstraint("tenant_id", "id", name="uq_webhooks_id_of_tenant"),
    Index("ix_webhooks_newest", "tenant_id", "created_at", "id"),
    Index("ix_webhooks_of_ingestion", "ingestion_id", postgresql_where=text("ingestion_id IS NOT NULL")),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("webhook_id", Uuid, nullable=False),
    Column("event_id", Uuid, nullable=False),
    enum_column("event", WebhookEvent),
    _moment("occurred_at"),
    # No foreign keys: what is told of may be gone by now.
    Column("ingestion_id", Uuid),
    Column("run_id", Uuid),
    Column("data", JSONB, nullable=False),
    enum_column("status", DeliveryStatus),
    _count("attempts"),
    _moment("next_attempt_at", nullable=True),
    _moment("last_attempt_at", nullable=True),
    Column("response_code", Integer),
    Column("error", Message),
    _moment("created_at", default_now=True),
    _moment("ended_at", nullable=True),
    one_of("event", WebhookEvent),
    one_of("status", DeliveryStatus),
    ForeignKeyConstraint(
        ["tenant_id", "webhook_id"], ["webhooks.tenant_id", "webhooks.id"], name="fk_webhook_deliveries_webhook", ondelete="CASCADE"
    ),
    UniqueConstraint("webhook_id", "event_id", name="uq_webhook_deliveries_event"),
    Index("ix_webhook_deliveries_newest", "webhook_id", "created_at", "id"),
    Index("ix_webhook_deliveries_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)
