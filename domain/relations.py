"""Which rows belong to which parents, in which order, under which filters: declared once, as data.

The persistence layer compiles these declarations to SQL, the in-memory fake interprets them, and the API takes its
arguments from them. The tenant's scope is not declared: it applies to every relation, always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID

from domain.access.entities import ApiKey, AuditEvent
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ledger.entities import FileAttempt, FileStatus, ProcessedFile
from domain.notifications.entities import Webhook, WebhookDelivery
from domain.runs.entities import Run, RunStatus, RunTrigger
from domain.schema_changes import SchemaChange, SchemaChangeDecision
from domain.schema_versions import SchemaVersion

E = TypeVar("E")


class Operator(StrEnum):
    """How a filter's value meets an entity's attribute. An absent (None) value filters nothing."""

    EQUALS = "equals"
    ANY_OF = "any of"
    AT_LEAST = "at least"
    BEFORE = "before"
    CONTAINS = "contains, case-insensitively"
    STARTS_WITH = "starts with"


def where(attribute: str, operator: Operator, *, through: bool = False) -> Any:
    """A filter field that compares an attribute of the relation's entity (or, `through`, of the linking entity)."""
    return field(default=None, metadata={"attribute": attribute, "operator": operator, "through": through})


@dataclass(frozen=True, slots=True)
class NoFilter:
    """For relations that take no filter."""


@dataclass(frozen=True, slots=True)
class IngestionFilter:
    status: tuple[IngestionStatus, ...] | None = where("status", Operator.ANY_OF)
    name_contains: str | None = where("name", Operator.CONTAINS)


@dataclass(frozen=True, slots=True)
class RunFilter:
    ingestion_id: UUID | None = where("ingestion_id", Operator.EQUALS)
    status: tuple[RunStatus, ...] | None = where("status", Operator.ANY_OF)
    trigger: tuple[RunTrigger, ...] | None = where("trigger", Operator.ANY_OF)
    since: datetime | None = where("queued_at", Operator.AT_LEAST)
    until: datetime | None = where("queued_at", Operator.BEFORE)


@dataclass(frozen=True, slots=True)
class ProcessedFileFilter:
    """Of an ingestion's files: `status` is the file's own."""

    status: tuple[FileStatus, ...] | None = where("status", Operator.ANY_OF)
    path_prefix: str | None = where("path", Operator.STARTS_WITH)
    run_id: UUID | None = where("run_id", Operator.EQUALS)


@dataclass(frozen=True, slots=True)
class RunFileFilter:
    """Of a run's files: `status` is what came of the file in that run, whatever happened to it later."""

    status: tuple[FileStatus, ...] | None = where("outcome", Operator.ANY_OF, through=True)
    path_prefix: str | None = where("path", Operator.STARTS_WITH)


@dataclass(frozen=True, slots=True)
class SchemaChangeFilter:
    decision: tuple[SchemaChangeDecision, ...] | None = where("decision", Operator.ANY_OF)


@dataclass(frozen=True, slots=True)
class AuditEventFilter:
    operation: tuple[str, ...] | None = where("operation", Operator.ANY_OF)
    subject_id: UUID | None = where("subject_id", Operator.EQUALS)
    since: datetime | None = where("at", Operator.AT_LEAST)
    until: datetime | None = where("at", Operator.BEFORE)


@dataclass(frozen=True, slots=True)
class Sort:
    """`attribute` must never be None."""

    attribute: str
    descending: bool = False
    through: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """The entity between parent and child: the child belongs to the parents that its links name."""

    entity: type
    parent: str
    child: str


@dataclass(frozen=True, slots=True, eq=False)
class Relation(Generic[E]):
    """`parent` is the attribute that names the parent, None for the tenant's own collection.

    Each order ends, unsaid, with the entity's id (in the first key's direction), so that it is total and a cursor is a
    place in it. The first order is the default. `fixed` conditions hold for every row of the relation.
    """

    name: str
    entity: type[E]
    orders: Mapping[str, tuple[Sort, ...]]
    filter: type
    parent: str | None = None
    link: Link | None = None
    fixed: Mapping[str, object] = field(default_factory=dict)

    def sort_keys(self, order: str) -> tuple[Sort, ...]:
        """The declared keys of an order, and the id that makes it total unless it is there already."""
        keys = self.orders[order]
        return keys if keys[-1].attribute == "id" else (*keys, Sort("id", descending=keys[0].descending))


INGESTIONS = Relation(
    "ingestions",
    Ingestion,
    orders={
        "NEWEST": (Sort("created_at", descending=True),),
        "OLDEST": (Sort("created_at"),),
        "NAME": (Sort("name"),),
    },
    filter=IngestionFilter,
)
_BY_QUEUED_AT = {"NEWEST": (Sort("queued_at", descending=True),), "OLDEST": (Sort("queued_at"),)}
RUNS = Relation("runs", Run, orders=_BY_QUEUED_AT, filter=RunFilter)
INGESTION_RUNS = Relation("ingestion.runs", Run, orders=_BY_QUEUED_AT, filter=RunFilter, parent="ingestion_id")
INGESTION_FILES = Relation(
    "ingestion.files",
    ProcessedFile,
    orders={"NEWEST": (Sort("id", descending=True),), "PATH": (Sort("path"),)},
    filter=ProcessedFileFilter,
    parent="ingestion_id",
    fixed={"current": True},
)
RUN_FILES = Relation(
    "run.files",
    ProcessedFile,
    orders={"ATTEMPTED": (Sort("id", through=True),)},
    filter=RunFileFilter,
    link=Link(FileAttempt, parent="run_id", child="file_id"),
)
FILE_ATTEMPTS = Relation("file.attempts", FileAttempt, orders={"NEWEST": (Sort("id", descending=True),)}, filter=NoFilter, parent="file_id")
INGESTION_SCHEMA_VERSIONS = Relation(
    "ingestion.schemaVersions",
    SchemaVersion,
    orders={"NEWEST": (Sort("version", descending=True),)},
    filter=NoFilter,
    parent="ingestion_id",
)
INGESTION_SCHEMA_CHANGES = Relation(
    "ingestion.schemaChanges",
    SchemaChange,
    orders={"NEWEST": (Sort("proposed_at", descending=True),)},
    filter=SchemaChangeFilter,
    parent="ingestion_id",
)
SCHEMA_CHANGE_FILES = Relation(
    "schemaChange.heldFiles",
    ProcessedFile,
    orders={"OLDEST": (Sort("id"),)},
    filter=NoFilter,
    parent="schema_change_id",
    fixed={"current": True, "status": FileStatus.HELD},
)
API_KEYS = Relation("apiKeys", ApiKey, orders={"NEWEST": (Sort("created_at", descending=True),)}, filter=NoFilter)
AUDIT_EVENTS = Relation("auditEvents", AuditEvent, orders={"NEWEST": (Sort("id", descending=True),)}, filter=AuditEventFilter)
WEBHOOKS = Relation("webhooks", Webhook, orders={"NEWEST": (Sort("created_at", descending=True),)}, filter=NoFilter)
WEBHOOK_DELIVERIES = Relation(
    "webhook.deliveries",
    WebhookDelivery,
    orders={"NEWEST": (Sort("created_at", descending=True),)},
    filter=NoFilter,
    parent="webhook_id",
)
