"""The request's dataloaders: every read of the API is one of these few questions, batched.

Keys carry the arguments. Keys that differ only in the parent are one statement; a loader call opens one short
connection per statement, never per field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader

from domain.clock import SystemClock
from domain.costs.estimator import CostEstimate, CostEstimator, SourceMeasure
from domain.ingestions.entities import ClusterSize, FormatType, Schedule
from domain.ledger.stats import IngestionStats
from domain.ports.reader import EntityId, Page, Reader, Window
from domain.ports.telemetry import Telemetry, Work
from domain.relations import Relation
from domain.runs.totals import RunTotals
from graphql_api.turns import Turns

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class NodeKey:
    entity: type
    id: EntityId


@dataclass(frozen=True, slots=True)
class PageKey:
    relation: Relation[Any]
    parent: EntityId | None
    window: Window


@dataclass(frozen=True, slots=True)
class CountKey:
    relation: Relation[Any]
    parent: EntityId | None
    filter: Hashable


@dataclass(frozen=True, slots=True)
class TotalsKey:
    ingestion_id: UUID
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class EstimateKey:
    measure: SourceMeasure
    format: FormatType
    cluster: ClusterSize
    schedule: Schedule | None


class _Loader(DataLoader[K, V]):
    """Whose answers are given in turns."""

    def __init__(self, load: Callable[[list[K]], Awaitable[Sequence[V | BaseException]]], turns: Turns) -> None:
        super().__init__(load_fn=load)
        self._turns = turns

    async def load(self, key: K) -> V:
        found = await super().load(key)
        await self._turns.take()
        return found


class Loaders:
    """One per request: what it caches is the request's view of the world, and `asked_at` its present moment.

    `batches` counts its statements.
    """

    def __init__(self, reader: Reader, costs: CostEstimator, telemetry: Telemetry, turns: Turns) -> None:
        self._reader = reader
        self._costs = costs
        self._telemetry = telemetry
        self.asked_at = SystemClock().now()
        self.batches = 0
        self.nodes: DataLoader[NodeKey, Any] = _Loader(self._load_nodes, turns)
        self.pages: DataLoader[PageKey, Page[Any]] = _Loader(self._load_pages, turns)
        self.counts: DataLoader[CountKey, int] = _Loader(self._load_counts, turns)
        self.stats: DataLoader[UUID, IngestionStats] = _Loader(self._load_stats, turns)
        self.run_totals: DataLoader[TotalsKey, RunTotals] = _Loader(self._load_run_totals, turns)
        self.estimates: DataLoader[EstimateKey, CostEstimate] = _Loader(self._load_estimates, turns)

    def forget(self) -> None:
        """From now on the world is looked at afresh: for subscriptions, whose requests last."""
        self.asked_at = SystemClock().now()
        for loader in vars(self).values():
            if isinstance(loader, DataLoader):
                loader.clear_all()

    async def node(self, entity: type[V], id: EntityId | None) -> V | None:
        """The entity, or None when it is not there, not the tenant's, or `id` is None."""
        if id is None:
            return None
        found: V | None = await self.nodes.load(NodeKey(entity, id))
        return found

    async def _load_nodes(self, keys: list[NodeKey]) -> Sequence[Any]:
        return await _by_group(
            keys,
            lambda key: key.entity,
            lambda entity, group: self._measured(entity.__name__, group, self._reader.by_ids(entity, [key.id for key in group])),
        )

    async def _load_pages(self, keys: list[PageKey]) -> Sequence[Page[Any]]:
        return await _by_group(
            keys,
            lambda key: (key.relation, key.window),
            lambda question, group: self._measured(
                question[0].name, group, self._reader.pages(question[0], [key.parent for key in group], question[1])
            ),
        )

    async def _load_counts(self, keys: list[CountKey]) -> Sequence[int]:
        return await _by_group(
            keys,
            lambda key: (key.relation, key.filter),
            lambda question, group: self._measured(
                f"count of {question[0].name}", group, self._reader.counts(question[0], [key.parent for key in group], question[1])
            ),
        )

    async def _load_stats(self, keys: list[UUID]) -> Sequence[IngestionStats]:
        return await self._measured("stats", keys, self._reader.stats(keys))

    async def _load_run_totals(self, keys: list[TotalsKey]) -> Sequence[RunTotals]:
        return await _by_group(
            keys,
            lambda key: (key.since, key.until),
            lambda range, group: self._measured(
                "totals of runs", group, self._reader.run_totals([key.ingestion_id for key in group], *range)
            ),
        )

    async def _load_estimates(self, keys: list[EstimateKey]) -> Sequence[CostEstimate]:
        """No question to the reader, but work that is to be done off the event loop, once for all: a year of firings takes its time."""
        return await asyncio.to_thread(
            lambda: [self._costs.estimate(key.measure, key.format, key.cluster, key.schedule, now=self.asked_at) for key in keys]
        )

    async def _measured(self, name: str, keys: Sequence[object], answer: Awaitable[V]) -> V:
        self.batches += 1
        with self._telemetry.during(Work.LOADER_BATCH, name, keys=len(keys)):
            return await answer


async def _by_group(keys: Sequence[K], group_of: Callable[[K], Any], ask: Callable[[Any, list[K]], Awaitable[Sequence[V]]]) -> Sequence[V]:
    """Ask once per group, all groups at the same time; answers aligned with `keys`."""
    groups: dict[Any, list[K]] = {}
    for key in keys:
        groups.setdefault(group_of(key), []).append(key)
    answers = await asyncio.gather(*(ask(question, group) for question, group in groups.items()))
    found = {key: value for group, values in zip(groups.values(), answers, strict=True) for key, value in zip(group, values, strict=True)}
    return [found[key] for key in keys]
