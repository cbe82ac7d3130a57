"""The read path in memory: the domain's relations, interpreted row by row."""

from __future__ import annotations

import dataclasses
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from domain.ingestions.entities import Ingestion
from domain.ledger.entities import FileStatus, ProcessedFile
from domain.ledger.stats import FileCount, IngestionStats
from domain.ports.reader import Cursor, Edge, EntityId, Page, Window
from domain.relations import Operator, Relation, Sort
from domain.runs.entities import Run, RunStatus
from domain.runs.totals import RunTotals
from tests.fakes.database import FakeDatabase

E = TypeVar("E")
_Row = tuple[Any, Any]
"""A node, and the link that led to it (None for a relation without one)."""

_COMPARE: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUALS: operator.eq,
    Operator.ANY_OF: lambda value, wanted: value in wanted,
    Operator.AT_LEAST: operator.ge,
    Operator.BEFORE: operator.lt,
    Operator.CONTAINS: lambda value, wanted: wanted.lower() in value.lower(),
    Operator.STARTS_WITH: lambda value, wanted: value.startswith(wanted),
}


class FakeReader:
    """Sees what is committed, of one tenant."""

    def __init__(self, database: FakeDatabase, tenant_id: UUID) -> None:
        self._database = database
        self._tenant_id = tenant_id

    async def by_ids(self, entity: type[E], ids: Sequence[EntityId]) -> Sequence[E | None]:
        found = {row.id: row for row in self._owned(entity)}
        return [found.get(id) for id in ids]

    async def pages(self, relation: Relation[E], parents: Sequence[EntityId | None], window: Window) -> Sequence[Page[E]]:
        return [self._page(relation, parent, window) for parent in parents]

    async def counts(self, relation: Relation[E], parents: Sequence[EntityId | None], filter: object) -> Sequence[int]:
        return [len(self._rows(relation, parent, filter)) for parent in parents]

    async def stats(self, ingestion_ids: Sequence[UUID]) -> Sequence[IngestionStats]:
        return [self._stats(id) for id in ingestion_ids]

    async def run_totals(self, ingestion_ids: Sequence[UUID], since: datetime, until: datetime) -> Sequence[RunTotals]:
        queued = [run for run in self._owned(Run) if since <= run.queued_at < until]
        return [sum((RunTotals.of(run) for run in queued if run.ingestion_id == id), RunTotals()) for id in ingestion_ids]

    def _stats(self, ingestion_id: UUID) -> IngestionStats:
        files = [file for file in self._owned(ProcessedFile) if file.ingestion_id == ingestion_id]
        generation = next((i.generation for i in self._owned(Ingestion) if i.id == ingestion_id), None)
        groups: dict[tuple[FileStatus, bool, bool], list[ProcessedFile]] = defaultdict(list)
        for file in files:
            loaded = file.status is FileStatus.SUCCESS
            absent, earlier = loaded and file.generation not in (None, generation), loaded and not file.current
            groups[file.status, absent, earlier].append(file)
        counts = [
            FileCount(
                status,
                files=len(group),
                size_bytes=sum(file.size_bytes for file in group),
                rows=sum(file.rows or 0 for file in group),
                rows_skipped=sum(file.rows_skipped or 0 for file in group),
                rows_rescued=sum(file.rows_rescued or 0 for file in group),
                absent=absent,
                earlier=earlier,
            )
            for (status, absent, earlier), group in groups.items()
        ]
        waiting = min(groups[FileStatus.PENDING, False, False], key=lambda file: file.id, default=None)
        successes = [run for run in self._owned(Run) if run.ingestion_id == ingestion_id and run.status is RunStatus.SUCCESS]
        last = max(successes, key=lambda run: (run.queued_at, run.id), default=None)
        return IngestionStats.of(
            counts,
            oldest_waiting_at=waiting and waiting.discovered_at,
            last_success_at=last and last.ended_at,
        )

    def _page(self, relation: Relation[E], parent: EntityId | None, window: Window) -> Page[E]:
        keys = relation.sort_keys(window.order)
        edges = [
            Edge(node, tuple(_value(key, (node, link)) for key in keys), link) for node, link in self._ordered(relation, parent, window)
        ]
        edges = [
            edge
            for edge in edges
            if (window.after is None or _compare(edge.cursor, window.after, keys) > 0)
            and (window.before is None or _compare(edge.cursor, window.before, keys) < 0)
        ]
        more = len(edges) > window.limit
        if window.backward:
            return Page(edges[-window.limit :] if window.limit else [], has_previous=more, has_next=window.before is not None)
        return Page(edges[: window.limit], has_previous=window.after is not None, has_next=more)

    def _ordered(self, relation: Relation[Any], parent: EntityId | None, window: Window) -> list[_Row]:
        rows = self._rows(relation, parent, window.filter)
        # Sorting keeps the order of equals, so the last key goes first.
        for key in reversed(relation.sort_keys(window.order)):
            rows.sort(key=partial(_value, key), reverse=key.descending)
        return rows

    def _rows(self, relation: Relation[Any], parent: EntityId | None, filter: object) -> list[_Row]:
        return [row for row in self._related(relation, parent) if _fixed(relation, row) and passes(row, filter)]

    def _related(self, relation: Relation[Any], parent: EntityId | None) -> list[_Row]:
        nodes = self._owned(relation.entity)
        if relation.link is not None:
            by_id = {node.id: node for node in nodes}
            links = [link for link in self._owned(relation.link.entity) if getattr(link, relation.link.parent) == parent]
            children = [(by_id.get(getattr(link, relation.link.child)), link) for link in links]
            return [(node, link) for node, link in children if node is not None]
        return [(node, None) for node in nodes if relation.parent is None or getattr(node, relation.parent) == parent]

    def _owned(self, entity: type) -> list[Any]:
        return [row for row in self._database.state.rows_of(entity).values() if row.tenant_id == self._tenant_id]


def _value(key: Sort, row: _Row) -> Any:
    return getattr(row[1] if key.through else row[0], key.attribute)


def _fixed(relation: Relation[Any], row: _Row) -> bool:
    return all(getattr(row[0], name) == value for name, value in relation.fixed.items())


def passes(row: _Row, filter: object) -> bool:
    for field in dataclasses.fields(filter):  # type: ignore[arg-type]  # every relation's filter is a dataclass
        wanted = getattr(filter, field.name)
        if wanted is not None:
            value = getattr(row[1] if field.metadata["through"] else row[0], field.metadata["attribute"])
            if not _COMPARE[field.metadata["operator"]](value, wanted):
                return False
    return True


def _compare(cursor: Cursor, other: Cursor, keys: Sequence[Sort]) -> int:
    """Negative when `cursor` stands before `other` in the order, positive when behind it."""
    pairs: list[tuple[Any, Any, Sort]] = list(zip(cursor, other, keys, strict=True))
    for mine, theirs, key in pairs:
        if mine != theirs:
            return 1 if (mine > theirs) != key.descending else -1
    return 0
