"""What happens, as subscribers are told."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from domain.activity import entities
from domain.activity.entities import ActivityKind, Place
from domain.errors import ValidationError
from domain.ingestions import entities as ingestion_entities
from domain.runs import entities as run_entities
from graphql_api.context import Info
from graphql_api.relay.ids import encode_id

if TYPE_CHECKING:
    from graphql_api.types.ingestion import Ingestion
    from graphql_api.types.run import Run

_Ingestion = Annotated["Ingestion", strawberry.lazy("graphql_api.types.ingestion")]
_Run = Annotated["Run", strawberry.lazy("graphql_api.types.run")]
_PLACE = re.compile(r"activity:(\d{1,18}):(\d{1,18})")


@strawberry.type(description="That something happened. What it points at is shown as it is when the event is sent, not as it was.")
class ActivityEvent:
    at: datetime = strawberry.field(description="When.")
    kind: ActivityKind = strawberry.field(description="What.")

    @strawberry.field(description="Its place, for `after`: the event after it is the next that happened.")
    @staticmethod
    def cursor(root: strawberry.Parent[entities.ActivityEvent]) -> str:
        return base64.urlsafe_b64encode(f"activity:{root.transaction}:{root.id}".encode()).decode()

    @strawberry.field(description="The id of the ingestion that it happened to, or to a run or files of which.")
    @staticmethod
    def ingestion_id(root: strawberry.Parent[entities.ActivityEvent]) -> strawberry.ID:
        return strawberry.ID(encode_id(ingestion_entities.Ingestion, root.ingestion_id))

    @strawberry.field(graphql_type=_Ingestion | None, description="That ingestion; null when it is gone.")
    @staticmethod
    async def ingestion(root: strawberry.Parent[entities.ActivityEvent], info: Info) -> ingestion_entities.Ingestion | None:
        return await info.context.loaders.node(ingestion_entities.Ingestion, root.ingestion_id)

    @strawberry.field(description="The id of the run that it happened to; null when it happened to none.")
    @staticmethod
    def run_id(root: strawberry.Parent[entities.ActivityEvent]) -> strawberry.ID | None:
        return None if root.run_id is None else strawberry.ID(encode_id(run_entities.Run, root.run_id))

    @strawberry.field(graphql_type=_Run | None, description="That run; null when it is gone, or when there is none.")
    @staticmethod
    async def run(root: strawberry.Parent[entities.ActivityEvent], info: Info) -> run_entities.Run | None:
        return await info.context.loaders.node(run_entities.Run, root.run_id)


def place_of(cursor: str) -> Place:
    """Raises `ValidationError` for `after` when it is no cursor of an event."""
    try:
        found = _PLACE.fullmatch(base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode())
    except (binascii.Error, UnicodeError, ValueError):
        found = None
    if found is None:
        raise ValidationError.of("after", message="not a cursor of an event")
    return Place(int(found[1]), int(found[2]))
