"""SQL for the domain's declared relations: one compiler for every list that the API shows.

A page for many parents is one statement: `unnest(parents) WITH ORDINALITY` joined LATERAL to a limited, keyset-bounded
select per parent. A window function over all children would read them all.
"""

from __future__ import annotations

import dataclasses
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Uuid,
    and_,
    bindparam,
    collate,
    column,
    func,
    literal,
    or_,
    select,
    true,
)

from domain.ports.reader import Cursor, EntityId, Window
from domain.relations import Operator, Relation, Sort
from persistence.mapping import TABLE_OF, columns_of


def starts_with(attribute: Any, prefix: str) -> ColumnElement[bool]:
    """For columns in bytewise collation, as a range: under row-level security an index may answer comparisons, but not LIKE."""
    beyond = _beyond_all(prefix)
    return and_(attribute >= prefix, attribute < beyond) if beyond else attribute >= prefix


def _beyond_all(prefix: str) -> str:
    """The least text that is greater than every text with the prefix; empty when there is none."""
    stem = prefix.rstrip(chr(sys.maxunicode))
    if not stem:
        return ""
    following = ord(stem[-1]) + 1
    # What UTF-8 has no bytes for is passed over.
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


_COMPARE: Mapping[Operator, Callable[[Any, Any], ColumnElement[bool]]] = {
    Operator.EQUALS: operator.eq,
    Operator.ANY_OF: lambda attribute, values: attribute.in_(values),
    Operator.AT_LEAST: operator.ge,
    Operator.BEFORE: operator.lt,
    # Names are kept in bytewise collation, for which only ASCII has upper and lower case.
    Operator.CONTAINS: lambda attribute, text: collate(attribute, "default").icontains(text, autoescape=True),
    Operator.STARTS_WITH: starts_with,
}


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a relation's rows come from: the entity's table and, with a link, the linking one joined to it."""

    node: FromClause
    link: FromClause | None
    joined: FromClause
    parent: ColumnElement[Any] | None
    conditions: tuple[ColumnElement[bool], ...]

    def at(self, *, through: bool) -> FromClause:
        if not through:
            return self.node
        assert self.link is not None
        return self.link


def _source(relation: Relation[Any], tenant_id: UUID) -> _Source:
    node = TABLE_OF[relation.entity].alias("node")
    always = [node.c.tenant_id == tenant_id, *(node.c[name] == value for name, value in relation.fixed.items())]
    if relation.link is None:
        parent = node.c[relation.parent] if relation.parent else None
        return _Source(node, None, node, parent, tuple(always))
    link = TABLE_OF[relation.link.entity].alias("link")
    always.append(link.c.tenant_id == tenant_id)
    joined = link.join(node, link.c[relation.link.child] == node.c.id)
    return _Source(node, link, joined, link.c[relation.link.parent], tuple(always))


def conditions(node: FromClause, filter: object, link: FromClause | None = None) -> list[ColumnElement[bool]]:
    """What a filter asks of the rows of `node` and, for what goes through it, of `link`."""
    asked = []
    for field in dataclasses.fields(filter):  # type: ignore[arg-type]  # every relation's filter is a dataclass
        value = getattr(filter, field.name)
        if value is not None:
            at = link if field.metadata["through"] else node
            assert at is not None
            asked.append(_COMPARE[field.metadata["operator"]](at.c[field.metadata["attribute"]], value))
    return asked


def _beyond(columns: Sequence[ColumnElement[Any]], keys: Sequence[Sort], cursor: Cursor, *, after: bool) -> ColumnElement[bool]:
    """Rows on one side of a place in the order. With one direction for all keys it is a row comparison, which an index can use."""
    if len({key.descending for key in keys}) == 1:
        bound = func.row(*(literal(value, column.type) for value, column in zip(cursor, columns, strict=True)))
        place = func.row(*columns)
        return place > bound if after != keys[0].descending else place < bound
    alternatives = []
    for index, (key, at) in enumerate(zip(keys, columns, strict=True)):
        equal = [columns[i] == literal(cursor[i], columns[i].type) for i in range(index)]
        value = literal(cursor[index], at.type)
        alternatives.append(and_(*equal, at > value if after != key.descending else at < value))
    return or_(*alternatives)


def page_statement(relation: Relation[Any], tenant_id: UUID, parents: Sequence[EntityId | None], window: Window) -> Select[Any]:
    """Rows of: the parent's place in `parents` (from 1), the sort keys, the node's columns, the link's columns if any.

    At most `window.limit + 1` rows per parent, so that the last one tells of more; in the direction of the window.
    """
    source = _source(relation, tenant_id)
    keys = relation.sort_keys(window.order)
    at = [source.at(through=key.through).c[key.attribute] for key in keys]
    bounds = [*source.conditions, *conditions(source.node, window.filter, source.link)]
    if window.after is not None:
        bounds.append(_beyond(at, keys, window.after, after=True))
    if window.before is not None:
        bounds.append(_beyond(at, keys, window.before, after=False))
    ordering = [c.desc() if key.descending != window.backward else c.asc() for key, c in zip(keys, at, strict=True)]
    columns = [
        *(c.label(f"key_{i}") for i, c in enumerate(at)),
        *(c.label(f"node_{i}") for i, c in enumerate(columns_of(relation.entity, source.node))),
    ]
    if relation.link is not None:
        columns += [c.label(f"link_{i}") for i, c in enumerate(columns_of(relation.link.entity, source.link))]
    rows = select(*columns).select_from(source.joined).where(*bounds).order_by(*ordering).limit(window.limit + 1)
    if source.parent is None:
        child = rows.subquery("child")
        return select(literal(1, Integer).label("place"), *child.c).order_by(*_lateral_order(child, keys, window))
    given = _given(parents, source.parent)
    lateral = rows.where(source.parent == given.c.parent).correlate(given).lateral("child")
    return select(given.c.place, *lateral.c).join(lateral, true()).order_by(given.c.place, *_lateral_order(lateral, keys, window))


def count_statement(relation: Relation[Any], tenant_id: UUID, parents: Sequence[EntityId | None], filter: object) -> Select[Any]:
    """Rows of: the parent's place in `parents` (from 1), how many rows it has."""
    source = _source(relation, tenant_id)
    bounds = [*source.conditions, *conditions(source.node, filter, source.link)]
    counted = select(func.count().label("rows")).select_from(source.joined).where(*bounds)
    if source.parent is None:
        return select(literal(1, Integer).label("place"), counted.scalar_subquery())
    given = _given(parents, source.parent)
    lateral = counted.where(source.parent == given.c.parent).correlate(given).lateral("counted")
    return select(given.c.place, lateral.c.rows).join(lateral, true())


def nodes_statement(entity: type, tenant_id: UUID, ids: Sequence[EntityId]) -> Select[Any]:
    table = TABLE_OF[entity]
    # A caller may make an id of any number; PostgreSQL would refuse one that the column cannot hold.
    possible = [id for id in ids if not isinstance(id, int) or -(2**63) <= id < 2**63]
    wanted = bindparam(None, possible, type_=ARRAY(table.c.id.type))
    return select(*columns_of(entity)).where(table.c.tenant_id == tenant_id, table.c.id == func.any(wanted))


def _lateral_order(lateral: FromClause, keys: Sequence[Sort], window: Window) -> list[ColumnElement[Any]]:
    return [
        lateral.c[f"key_{i}"].desc() if key.descending != window.backward else lateral.c[f"key_{i}"].asc() for i, key in enumerate(keys)
    ]


def _given(parents: Sequence[EntityId | None], parent: ColumnElement[Any]) -> Any:
    type = Uuid() if isinstance(parent.type, Uuid) else BigInteger()
    values = bindparam(None, list(parents), type_=ARRAY(type))
    return func.unnest(values).table_valued(column("parent", type), with_ordinality="place", name="given").render_derived()
