"""Global ids: opaque to clients, `Kind:key` inside."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from domain.access.entities import ApiKey, AuditEvent
from domain.errors import NotFoundError
from domain.ingestions.entities import Ingestion
from domain.ledger.entities import FileAttempt, ProcessedFile
from domain.notifications.entities import Webhook, WebhookDelivery
from domain.ports.reader import EntityId
from domain.runs.entities import Run
from domain.schema_changes import SchemaChange
from domain.schema_versions import SchemaVersion

KINDS: dict[str, tuple[type, type[UUID] | type[int]]] = {
    "Ingestion": (Ingestion, UUID),
    "Run": (Run, UUID),
    "ProcessedFile": (ProcessedFile, int),
    "FileAttempt": (FileAttempt, int),
    "SchemaVersion": (SchemaVersion, int),
    "SchemaChange": (SchemaChange, UUID),
    "ApiKey": (ApiKey, UUID),
    "AuditEvent": (AuditEvent, int),
    "Webhook": (Webhook, UUID),
    "WebhookDelivery": (WebhookDelivery, UUID),
}
"""Node type -> its entity and its key's type."""

_KIND_OF = {entity: kind for kind, (entity, _) in KINDS.items()}
_LARGEST_KEY = 2**63 - 1


def encode_id(entity: type, key: EntityId) -> str:
    return base64.urlsafe_b64encode(f"{_KIND_OF[entity]}:{key}".encode()).decode()


def decode_any_id(id: str) -> tuple[type, EntityId] | None:
    """The entity and its key; None for what is no id of ours, which callers treat like an id of nothing."""
    try:
        kind, _, text = base64.b64decode(id.encode(), altchars=b"-_", validate=True).decode().partition(":")
        entity, key_type = KINDS[kind]
        key = key_type(text)
    except (binascii.Error, UnicodeError, KeyError, ValueError):
        return None
    if isinstance(key, int) and not 0 < key <= _LARGEST_KEY:
        return None
    # Only the spelling that we give out, so that an id can be compared as text.
    return (entity, key) if encode_id(entity, key) == id else None


def required_key(entity: type, id: str, kind: str) -> UUID:
    """The key of something that has to be there. Raises `NotFoundError` of the kind for what is no id of this entity."""
    key = decode_id(entity, id)
    if not isinstance(key, UUID):
        raise NotFoundError(kind)
    return key


def decode_id(entity: type, id: str) -> EntityId | None:
    """The key, if `id` is one of this entity's."""
    found = decode_any_id(id)
    return found[1] if found is not None and found[0] is entity else None
