"""Filter inputs, and their way to the domain's filters of the same shape."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import strawberry

from domain.errors import ValidationError
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ledger.entities import FileStatus
from domain.runs.entities import Run, RunStatus, RunTrigger
from graphql_api.relay.ids import decode_id

F = TypeVar("F")

_IDS = {"run_id": Run, "ingestion_id": Ingestion}
_NOBODY = UUID(int=0)
"""The key that an unreadable id stands for: it filters like the id of something that is not there."""


@strawberry.input(description="Which ingestions; what is absent filters nothing.")
class IngestionFilter:
    status: list[IngestionStatus] | None = strawberry.field(default=None, description="In one of these statuses.")
    name_contains: str | None = strawberry.field(default=None, description="With this in the name, whatever the case.")


@strawberry.input(description="Which runs; what is absent filters nothing.")
class RunFilter:
    ingestion_id: strawberry.ID | None = strawberry.field(default=None, description="Of this ingestion.")
    status: list[RunStatus] | None = strawberry.field(default=None, description="In one of these statuses.")
    trigger: list[RunTrigger] | None = strawberry.field(default=None, description="Made for one of these reasons.")
    since: datetime | None = strawberry.field(default=None, description="Queued at this moment or later.")
    until: datetime | None = strawberry.field(default=None, description="Queued before this moment.")


@strawberry.input(description="Which files; what is absent filters nothing.")
class ProcessedFileFilter:
    status: list[FileStatus] | None = strawberry.field(
        default=None, description="In one of these statuses. Of a run's files: with one of these outcomes in that run."
    )
    path_prefix: str | None = strawberry.field(default=None, description="With a path that begins like this.")
    run_id: strawberry.ID | None = strawberry.field(
        default=None, description="Claimed last by this run. Of a run's files this filters nothing."
    )


def to_domain(type: type[F], given: object | None) -> F:
    """An instance of the domain's filter type, with the attributes that `given` has. Raises `ValidationError` for a NUL in a text."""
    values: dict[str, object] = {}
    for field in dataclasses.fields(type):  # type: ignore[arg-type]  # filters are dataclasses
        value = getattr(given, field.name, None)
        if value is None:
            continue
        if field.name in _IDS:
            value = decode_id(_IDS[field.name], value) or _NOBODY
        elif isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, str) and "\0" in value:
            raise ValidationError.of("filter", field.name, message="must not contain a NUL character")
        values[field.name] = value
    return type(**values)
