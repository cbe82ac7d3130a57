"""Entities from rows and back. Declared once per entity: its table. Columns are the entity's attributes, in its order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Table

from domain.access.entities import ApiKey, AuditEvent
from domain.activity.entities import ActivityEvent
from domain.ingestions.entities import Ingestion
from domain.ledger.entities import Batch, ClaimedFile, FileAttempt, ProcessedFile
from domain.notifications.entities import Webhook, WebhookDelivery
from domain.runs.entities import Run
from domain.schema_changes import SchemaChange
from domain.schema_versions import SchemaVersion
from domain.tenants import Tenant
from persistence import tables

E = TypeVar("E")

TABLE_OF: dict[type, Table] = {
    Tenant: tables.tenants,
    Ingestion: tables.ingestions,
    Run: tables.runs,
    Batch: tables.batches,
    ProcessedFile: tables.processed_files,
    ClaimedFile: tables.processed_files,
    FileAttempt: tables.file_attempts,
    SchemaChange: tables.schema_changes,
    SchemaVersion: tables.schema_versions,
    ApiKey: tables.api_keys,
    AuditEvent: tables.audit_events,
    ActivityEvent: tables.activity_events,
    Webhook: tables.webhooks,
    WebhookDelivery: tables.webhook_deliveries,
}

_NAMES: dict[type, tuple[str, ...]] = {entity: tuple(f.name for f in dataclasses.fields(entity)) for entity in TABLE_OF}


def columns_of(entity: type, source: Any = None) -> list[ColumnElement[Any]]:
    """The entity's columns, of its table or of an alias of it."""
    columns = (TABLE_OF[entity] if source is None else source).c
    return [columns[name] for name in _NAMES[entity]]


def entity_of(entity: type[E], row: Sequence[Any]) -> E:
    """`row` begins with `columns_of(entity)`."""
    return entity(*row[: len(_NAMES[entity])])


def values_of(entity: object, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """What an INSERT or UPDATE stores."""
    return {name: getattr(entity, name) for name in _NAMES[type(entity)] if name not in without}
