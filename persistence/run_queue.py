"""SQL for the queue of runs: one statement that takes them in a fair order and within the limits."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Text, Update, and_, case, false, func, literal, or_, select, true, update

from domain.runs.entities import RunLimits, RunStatus
from domain.states import ACTIVE_RUN
from persistence.repositories.runs import lease_end
from persistence.tables import ingestions, runs

TAKING = 0x6175746F6C6F7275
"""Arbitrary, and this project's alone: the advisory lock under which one at a time takes runs, so that the limits hold."""


def take_statement(limit: int, limits: RunLimits, *, lease_seconds: float, only: UUID | None = None) -> Update:
    """Give QUEUED runs that nobody has in hand a lease; rows of: their turn, tenant and id.

    A run's turn is what its tenant would have in hand with it, so that tenants take turns however long their queues are.
    """
    taken = func.coalesce(runs.c.lease_expires_at > func.clock_timestamp(), false())
    in_hand: ColumnElement[bool] = or_(runs.c.status != _written(RunStatus.QUEUED), taken)
    considered: ColumnElement[bool] = true()
    if only is not None:
        # Not behind others of its tenant, for which nobody may come.
        in_hand = and_(in_hand, runs.c.id != only)
        considered = or_(in_hand, runs.c.id == only)
    active = (
        select(
            runs.c.id,
            runs.c.tenant_id,
            runs.c.queued_at,
            ingestions.c.execution["engine"].astext.label("engine"),
            in_hand.label("in_hand"),
        )
        .join(ingestions, ingestions.c.id == runs.c.ingestion_id)
        .where(runs.c.status.in_([_written(status) for status in ACTIVE_RUN]), considered)
        .cte("active")
    )
    age = (active.c.queued_at, active.c.id)
    turns = select(
        active,
        (
            _in_hand(active).over(partition_by=active.c.tenant_id)
            + func.row_number().over(partition_by=(active.c.tenant_id, active.c.in_hand), order_by=age)
        ).label("turn"),
    ).cte("turns")
    waits = and_(~turns.c.in_hand, true() if limits.per_tenant is None else turns.c.turn <= limits.per_tenant)
    order = (turns.c.turn, turns.c.queued_at, turns.c.id)
    places = select(
        turns.c.id,
        turns.c.engine,
        waits.label("waits"),
        func.row_number().over(order_by=order).label("place"),
        (
            _in_hand(turns).over(partition_by=turns.c.engine) + func.row_number().over(partition_by=(turns.c.engine, waits), order_by=order)
        ).label("of_engine"),
    ).cte("places")
    chosen = (
        select(places.c.id, places.c.place).where(places.c.waits, _room(places, limits)).order_by(places.c.place).limit(limit).cte("chosen")
    )
    return (
        update(runs)
        .where(runs.c.id == chosen.c.id, runs.c.status == _written(RunStatus.QUEUED))
        .values(lease_expires_at=lease_end(lease_seconds))
        .returning(chosen.c.place, runs.c.tenant_id, runs.c.id)
    )


def _in_hand(relation: Any) -> Any:
    return func.count().filter(relation.c.in_hand)


def _room(places: Any, limits: RunLimits) -> ColumnElement[bool]:
    if not limits.per_engine:
        return true()
    return case(
        {literal(engine, Text): places.c.of_engine <= most for engine, most in limits.per_engine.items()},
        value=places.c.engine,
        else_=true(),
    )


def _written(status: RunStatus) -> ColumnElement[Any]:
    """Written into the statement: a plan for any status could not use the index of the active ones."""
    return literal(status, runs.c.status.type, literal_execute=True)
