"""What happens, as rows in the order of their commits.

A transaction takes its number when it first writes, and may commit long after one with a greater number: whoever reads on from the
greatest number that they have seen jumps over it. So a reader goes no further than the oldest number that is still under way,
`pg_snapshot_xmin(pg_current_snapshot())`: of all below it, it is certain whether they are there, and they never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Select,
    Text,
    and_,
    cast,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    true,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.activity.entities import ActivityEvent, Place
from domain.ports.activity import Look
from persistence.database import connection
from persistence.mapping import columns_of, entity_of
from persistence.repositories.scope import TenantScope
from persistence.tables import activity_events

ACTIVITY_CHANNEL = "autoloader_activity"
"""NOTIFY on it wakes whoever follows a tenant: the notification is the tenant's id, and no more."""

_SNAPSHOT: ColumnElement[Any] = literal_column("pg_current_snapshot()")
_HORIZON: ColumnElement[Any] = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint", BigInteger)
"""The oldest transaction that is still under way, in any database of the server."""


async def store_activity(scope: TenantScope) -> None:
    """The transaction's last statement: its notes as rows, and the notification, which is delivered when it commits."""
    notes = scope.activity.taken()
    if not notes:
        return
    rows = [
        {"tenant_id": scope.tenant_id, "kind": kind, "ingestion_id": ingestion_id, "run_id": run_id} for kind, ingestion_id, run_id in notes
    ]
    stored = insert(activity_events).values(rows).returning(activity_events.c.id).cte("stored")
    await scope.connection.execute(select(func.pg_notify(ACTIVITY_CHANNEL, str(scope.tenant_id))).add_cte(stored))


class SqlActivityLog:
    def __init__(self, engine: AsyncEngine, tenant_id: UUID) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._tenant_id = tenant_id

    async def now(self) -> Place:
        present: Select[Any] = select(_HORIZON, cast(_SNAPSHOT, Text))
        [(horizon, seen)] = await self._rows(present)
        return Place(horizon, 0, seen)

    async def holds(self, place: Place, *, younger_than_seconds: float) -> bool:
        age = func.extract("epoch", func.clock_timestamp() - activity_events.c.at)
        at = and_(self._mine, activity_events.c.transaction == place.transaction, activity_events.c.id == place.id)
        [(held,)] = await self._rows(select(exists().where(at, age < younger_than_seconds)))
        return bool(held)

    async def after(self, place: Place, *, limit: int, ingestion_id: UUID | None = None) -> Look:
        rows = await self._rows(self._look(place, limit, ingestion_id))
        horizon, unsettled = rows[0][:2]
        events = [entity_of(ActivityEvent, row[2:]) for row in rows if row[2] is not None]
        # Of what is below the horizon nothing is left, and nothing will come: the next look need not pass over it again.
        reached = events[-1].place if len(events) == limit else max(place, Place(horizon, 0), key=lambda at: (at.transaction, at.id))
        return Look(events, replace(reached, seen=_still_of_use(place.seen, reached)), unsettled)

    def _look(self, place: Place, limit: int, ingestion_id: UUID | None) -> Select[Any]:
        """Rows of: the horizon, whether there is anything beyond it, and an event's columns, which are NULL when there is none."""
        snapshot = select(_HORIZON.label("horizon")).cte("snapshot")
        order = (activity_events.c.transaction, activity_events.c.id)
        bounds = [
            self._mine,
            func.row(*order) > func.row(literal(place.transaction, BigInteger), literal(place.id, BigInteger)),
            *([] if ingestion_id is None else [activity_events.c.ingestion_id == ingestion_id]),
            *([] if place.seen is None else [~_was_seen(place.seen)]),
        ]
        settled = select(*columns_of(ActivityEvent)).where(*bounds, activity_events.c.transaction < snapshot.c.horizon)
        told = settled.order_by(*order).limit(limit).correlate(snapshot).lateral("told")
        beyond = exists().where(*bounds, activity_events.c.transaction >= snapshot.c.horizon).correlate(snapshot)
        rows = select(snapshot.c.horizon, beyond, *told.c).select_from(snapshot.outerjoin(told, true()))
        return rows.order_by(told.c.transaction, told.c.id)

    @property
    def _mine(self) -> ColumnElement[bool]:
        return activity_events.c.tenant_id == self._tenant_id

    async def _rows(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        async with connection(self._engine, self._tenant_id) as opened:
            rows: Sequence[Sequence[Any]] = (await opened.execute(statement)).all()
            return rows


def _was_seen(snapshot: str) -> ColumnElement[bool]:
    """Whether the row's transaction had ended by then. Some behind the place had, while others before them were under way."""
    number = cast(activity_events.c.transaction, Text).op("::")(literal_column("xid8"))
    return func.pg_visible_in_snapshot(number, literal(snapshot, Text).op("::")(literal_column("pg_snapshot")), type_=Boolean)


def _still_of_use(snapshot: str | None, reached: Place) -> str | None:
    """Of a transaction that began after the snapshot, nothing was seen."""
    if snapshot is None:
        return None
    first_after = int(snapshot.split(":")[1])
    return None if reached.transaction >= first_after else snapshot
