"""The request's dataloaders: every read of the API is one of these few questions, batched.

Keys carry the arguments. Keys that differ only in the parent are one statement; a loader call opens one short
connection per statement, never per field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader

from domain.ledger.stats import IngestionStats
from domain.ports.reader import EntityId, Page, Reader, Window
from domain.relations import Relation

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


class Loaders:
    """One per request: what it caches is the request's view of the world."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.nodes: DataLoader[NodeKey, Any] = DataLoader(load_fn=self._load_nodes)
        self.pages: DataLoader[PageKey, Page[Any]] = DataLoader(load_fn=self._load_pages)
        self.counts: DataLoader[CountKey, int] = DataLoader(load_fn=self._load_counts)
        self.stats: DataLoader[UUID, IngestionStats] = DataLoader(load_fn=reader.stats)

    async def node(self, entity: type[V], id: EntityId | None) -> V | None:
        """The entity, or None when it is not there, not the tenant's, or `id` is None."""
        if id is None:
            return None
        found: V | None = await self.nodes.load(NodeKey(entity, id))
        return found

    async def _load_nodes(self, keys: list[NodeKey]) -> Sequence[Any]:
        return await _by_group(keys, lambda key: key.entity, lambda entity, group: self._reader.by_ids(entity, [key.id for key in group]))

    async def _load_pages(self, keys: list[PageKey]) -> Sequence[Page[Any]]:
        return await _by_group(
            keys,
            lambda key: (key.relation, key.window),
            lambda question, group: self._reader.pages(question[0], [key.parent for key in group], question[1]),
        )

    async def _load_counts(self, keys: list[CountKey]) -> Sequence[int]:
        return await _by_group(
            keys,
            lambda key: (key.relation, key.filter),
            lambda question, group: self._reader.counts(question[0], [key.parent for key in group], question[1]),
        )


async def _by_group(keys: Sequence[K], group_of: Callable[[K], Any], ask: Callable[[Any, list[K]], Awaitable[Sequence[V]]]) -> Sequence[V]:
    """Ask once per group, all groups at the same time; answers aligned with `keys`."""
    groups: dict[Any, list[K]] = {}
    for key in keys:
        groups.setdefault(group_of(key), []).append(key)
    answers = await asyncio.gather(*(ask(question, group) for question, group in groups.items()))
    found = {key: value for group, values in zip(groups.values(), answers, strict=True) for key, value in zip(group, values, strict=True)}
    return [found[key] for key in keys]
