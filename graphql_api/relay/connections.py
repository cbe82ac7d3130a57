"""Relay connections over the domain's declared relations: one resolver for every list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import strawberry

from domain.errors import FieldError, ValidationError
from domain.ports.reader import Edge as PageEdge
from domain.ports.reader import EntityId, Page, Window
from domain.relations import Relation
from graphql_api.context import Info
from graphql_api.loaders import CountKey, PageKey
from graphql_api.relay.cursors import decode_cursor, encode_cursor

E = TypeVar("E")

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100


def _argument(description: str) -> Any:
    return strawberry.argument(description=description)


First = Annotated[int | None, _argument(f"At most this many from the start: {DEFAULT_PAGE_SIZE} unless told, up to {MAX_PAGE_SIZE}.")]
After = Annotated[str | None, _argument("Only what comes after this cursor.")]
Last = Annotated[int | None, _argument(f"At most this many from the end, up to {MAX_PAGE_SIZE}; not together with `first`.")]
Before = Annotated[str | None, _argument("Only what comes before this cursor.")]


@dataclass(frozen=True, slots=True)
class ConnectionPage(Generic[E]):
    """A page, and the question that it answers: what a connection type is resolved from."""

    relation: Relation[E]
    parent: EntityId | None
    window: Window
    page: Page[E]

    @property
    def edges(self) -> list[EdgeOfPage[E]]:
        return [EdgeOfPage(self, edge) for edge in self.page.edges]

    @property
    def nodes(self) -> list[E]:
        return [edge.node for edge in self.page.edges]

    @property
    def page_info(self) -> ConnectionPage[E]:
        return self

    def cursor(self, edge: PageEdge[E]) -> str:
        return encode_cursor(self.relation, self.window.order, edge.cursor)


@dataclass(frozen=True, slots=True)
class EdgeOfPage(Generic[E]):
    of: ConnectionPage[E]
    edge: PageEdge[E]

    @property
    def node(self) -> E:
        return self.edge.node

    @property
    def cursor(self) -> str:
        return self.of.cursor(self.edge)

    @property
    def attempt(self) -> object | None:
        return self.edge.link


@strawberry.type(description="Where a page lies in its connection.")
class PageInfo:
    @strawberry.field(description="Whether there is more after the last edge.")
    @staticmethod
    def has_next_page(root: strawberry.Parent[ConnectionPage[Any]]) -> bool:
        return root.page.has_next

    @strawberry.field(description="Whether there is more before the first edge.")
    @staticmethod
    def has_previous_page(root: strawberry.Parent[ConnectionPage[Any]]) -> bool:
        return root.page.has_previous

    @strawberry.field(description="The first edge's cursor; null on an empty page.")
    @staticmethod
    def start_cursor(root: strawberry.Parent[ConnectionPage[Any]]) -> str | None:
        return root.cursor(root.page.edges[0]) if root.page.edges else None

    @strawberry.field(description="The last edge's cursor; null on an empty page.")
    @staticmethod
    def end_cursor(root: strawberry.Parent[ConnectionPage[Any]]) -> str | None:
        return root.cursor(root.page.edges[-1]) if root.page.edges else None


async def total_count(root: strawberry.Parent[ConnectionPage[Any]], info: Info) -> int:
    """Asked for by field, so that nobody pays for a count that is not read."""
    return await info.context.loaders.counts.load(CountKey(root.relation, root.parent, root.window.filter))


async def connect(
    info: Info,
    relation: Relation[E],
    parent: EntityId | None,
    *,
    filter: Any = None,
    order: str | None = None,
    first: int | None,
    after: str | None,
    last: int | None = None,
    before: str | None = None,
) -> ConnectionPage[E]:
    """Load a page. Raises `ValidationError` naming the argument that is wrong."""
    problems = []
    if first is not None and last is not None:
        problems.append(FieldError(("last",), "give first or last, not both"))
    for name, size in (("first", first), ("last", last)):
        if size is not None and not 0 <= size <= MAX_PAGE_SIZE:
            problems.append(FieldError((name,), f"must be from 0 to {MAX_PAGE_SIZE}"))
    if problems:
        raise ValidationError(problems)
    order = order or next(iter(relation.orders))
    size = last if last is not None else first
    window = Window(
        limit=DEFAULT_PAGE_SIZE if size is None else size,
        order=order,
        filter=relation.filter() if filter is None else filter,
        after=decode_cursor(relation, order, after, "after") if after is not None else None,
        before=decode_cursor(relation, order, before, "before") if before is not None else None,
        backward=last is not None,
    )
    page = await info.context.loaders.pages.load(PageKey(relation, parent, window))
    return ConnectionPage(relation, parent, window, page)
