"""The read path: each question one statement, outside any transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ledger.stats import FileCount, IngestionStats
from domain.ports.reader import Edge, EntityId, Page, Window
from domain.relations import Relation
from domain.runs.totals import RunTotals
from persistence.database import connection
from persistence.mapping import columns_of, entity_of
from persistence.relations import count_statement, nodes_statement, page_statement
from persistence.stats import COUNTED, run_totals_statement, stats_statement

E = TypeVar("E")


class SqlReader:
    """Bound to one tenant. A connection is held for the length of one statement."""

    def __init__(self, engine: AsyncEngine, tenant_id: UUID) -> None:
        # Without this each statement would cost a BEGIN and a ROLLBACK.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._tenant_id = tenant_id

    async def by_ids(self, entity: type[E], ids: Sequence[EntityId]) -> Sequence[E | None]:
        rows = await self._rows(nodes_statement(entity, self._tenant_id, list(dict.fromkeys(ids))))
        found: dict[Any, E] = {node.id: node for node in (entity_of(entity, row) for row in rows)}  # type: ignore[attr-defined]  # entities have ids
        return [found.get(id) for id in ids]

    async def pages(self, relation: Relation[E], parents: Sequence[EntityId | None], window: Window) -> Sequence[Page[E]]:
        keys = len(relation.sort_keys(window.order))
        node_width = len(columns_of(relation.entity))
        edges: list[list[Edge[E]]] = [[] for _ in parents]
        for row in await self._rows(page_statement(relation, self._tenant_id, parents, window)):
            node = entity_of(relation.entity, row[1 + keys :])
            link = entity_of(relation.link.entity, row[1 + keys + node_width :]) if relation.link else None
            edges[row[0] - 1].append(Edge(node, tuple(row[1 : 1 + keys]), link))
        return [_page(found, window) for found in edges]

    async def counts(self, relation: Relation[E], parents: Sequence[EntityId | None], filter: object) -> Sequence[int]:
        counts = [0] * len(parents)
        for place, rows in await self._rows(count_statement(relation, self._tenant_id, parents, filter)):
            counts[place - 1] = rows
        return counts

    async def stats(self, ingestion_ids: Sequence[UUID]) -> Sequence[IngestionStats]:
        counts: list[list[FileCount]] = [[] for _ in ingestion_ids]
        moments: list[tuple[datetime | None, datetime | None]] = [(None, None) for _ in ingestion_ids]
        statement = stats_statement(self._tenant_id, ingestion_ids)
        for place, oldest_waiting_at, last_success_at, status, absent, earlier, *sums in await self._rows(statement):
            moments[place - 1] = oldest_waiting_at, last_success_at
            if status is not None:
                counts[place - 1].append(FileCount(status, absent=absent, earlier=earlier, **dict(zip(COUNTED, sums, strict=True))))
        return [
            IngestionStats.of(found, oldest_waiting_at=waiting, last_success_at=success)
            for found, (waiting, success) in zip(counts, moments, strict=True)
        ]

    async def run_totals(self, ingestion_ids: Sequence[UUID], since: datetime, until: datetime) -> Sequence[RunTotals]:
        totals = [RunTotals()] * len(ingestion_ids)
        for place, *sums in await self._rows(run_totals_statement(self._tenant_id, ingestion_ids, since, until)):
            totals[place - 1] = RunTotals(*sums)
        return totals

    async def _rows(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        async with connection(self._engine, self._tenant_id) as opened:
            rows: Sequence[Sequence[Any]] = (await opened.execute(statement)).all()
            return rows


def _page(found: list[Edge[E]], window: Window) -> Page[E]:
    more = len(found) > window.limit
    edges = found[: window.limit]
    if window.backward:
        return Page(edges[::-1], has_previous=more, has_next=window.before is not None)
    return Page(edges, has_previous=window.after is not None, has_next=more)
