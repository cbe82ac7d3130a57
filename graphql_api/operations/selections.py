"""Files that a mutation points at, as the domain takes them."""

from __future__ import annotations

from typing import Protocol

import strawberry

from domain import relations
from domain.errors import FieldError, NotFoundError, ValidationError
from domain.ingestions.entities import Ingestion
from domain.ledger.entities import ProcessedFile
from domain.ports.repositories import FileSelection
from graphql_api.relay.ids import decode_id
from graphql_api.types.filters import ProcessedFileFilter, to_domain

MAX_IDS = 1_000


class Pointing(Protocol):
    ids: list[strawberry.ID] | None
    ingestion_id: strawberry.ID | None
    filter: ProcessedFileFilter | None


def selection(input: Pointing) -> FileSelection:
    """Raises `ValidationError` unless it is ids or an ingestion. An id of nothing selects nothing, like another tenant's."""
    # What is absent is UNSET, which is falsy as None is.
    ids, ingestion_id, filter = input.ids or None, input.ingestion_id or None, input.filter or None
    if (ids is None) == (ingestion_id is None):
        raise ValidationError([FieldError(("ids",), "give either ids or ingestionId")])
    if ids is None:
        key = decode_id(Ingestion, ingestion_id or "")
        if key is None or isinstance(key, int):
            raise NotFoundError("ingestion")
        return FileSelection(ingestion_id=key, filter=to_domain(relations.ProcessedFileFilter, filter))
    if filter is not None:
        raise ValidationError([FieldError(("filter",), "goes with ingestionId, not with ids")])
    if len(ids) > MAX_IDS:
        raise ValidationError([FieldError(("ids",), f"at most {MAX_IDS} at once")])
    keys = (decode_id(ProcessedFile, id) for id in ids)
    return FileSelection(ids=tuple(key for key in keys if isinstance(key, int)))
