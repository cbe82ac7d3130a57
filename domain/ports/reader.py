"""The read path's port: nodes by id, pages of relations and sums, for many parents at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from domain.ledger.stats import IngestionStats
from domain.relations import Relation
from domain.runs.totals import RunTotals

E = TypeVar("E")
EntityId = UUID | int
Cursor = tuple[object, ...]
"""A place in an order: the values of its keys, the id last."""


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` rows of a relation: the first ones after `after`, or (`backward`) the last ones before `before`.

    Both cursors may be given; they bound the range, and `backward` says from which end it is taken. `filter` is an
    instance of the relation's filter type; `order` a key of its orders.
    """

    limit: int
    order: str
    filter: object
    after: Cursor | None = None
    before: Cursor | None = None
    backward: bool = False


@dataclass(frozen=True, slots=True)
class Edge(Generic[E]):
    """`link` is the linking entity of a relation that has one (a run's attempt at a file)."""

    node: E
    cursor: Cursor
    link: object | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[E]):
    """Edges in the relation's order. `has_previous` and `has_next` tell of rows inside the filter beyond the page's ends.

    The end that the page was not asked to look past answers by its cursor: there is something before a page that began `after`
    a place.
    """

    edges: Sequence[Edge[E]]
    has_previous: bool
    has_next: bool


class Reader(Protocol):
    """Bound to one tenant. Each call is one statement, whatever the number of keys."""

    async def by_ids(self, entity: type[E], ids: Sequence[EntityId]) -> Sequence[E | None]:
        """Aligned with `ids`; None for what is not there or not the tenant's. Ids may repeat."""
        ...

    async def pages(self, relation: Relation[E], parents: Sequence[EntityId | None], window: Window) -> Sequence[Page[E]]:
        """Aligned with `parents`. A relation without parents is asked with `[None]`."""
        ...

    async def counts(self, relation: Relation[E], parents: Sequence[EntityId | None], filter: object) -> Sequence[int]:
        """How many rows each parent's relation has under the filter; aligned with `parents`."""
        ...

    async def stats(self, ingestion_ids: Sequence[UUID]) -> Sequence[IngestionStats]:
        """How each ingestion's ledger stands; aligned with the ids, and all zero for what is not there or not the tenant's.

        The cost does not grow with the ledger.
        """
        ...

    async def run_totals(self, ingestion_ids: Sequence[UUID], since: datetime, until: datetime) -> Sequence[RunTotals]:
        """Sums over each ingestion's ended runs that were queued from `since` and before `until`; aligned with the ids.

        The cost grows with the number of those runs.
        """
        ...
