"""How far columns may change where people decide on it (REQUIRE_APPROVAL), and what is still to be decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import pyarrow as pa

from domain.ports.engine import ColumnChange, Decisions
from integrations.engines.embedded.column_types import describe, is_list, is_map, is_struct, parse_type, struct_fields, struct_of
from integrations.engines.embedded.type_merging import ELEMENT, VALUE, Place, storable, type_at, unify, widen


class ColumnDecisions:
    """`existing` are the table's columns; nothing for a table that is to be created.

    `allowed` are they with all that is approved. Of approved types for one place the first stays, unless another of them holds
    both.
    """

    def __init__(self, existing: Mapping[str, pa.DataType], hints: Mapping[str, pa.DataType], decisions: Decisions) -> None:
        self.allowed = dict(existing)
        self._hints = hints
        self._rejected: dict[tuple[str, Place], list[pa.DataType]] = defaultdict(list)
        folded = {name.casefold(): name for name in existing}
        for change in decisions.approved:
            name, after = change.column, parse_type(change.after)
            if folded.setdefault(name.casefold(), name) != name:
                continue
            if name in existing:
                self.allowed[name] = widen(self.allowed[name], after)
            else:
                self.allowed[name] = _agreed(self.allowed[name], after) if name in self.allowed else after
        for change in decisions.rejected:
            before = None if change.before is None else parse_type(change.before)
            for place, type_ in _differences(before, parse_type(change.after), ()):
                self._rejected[change.column, place].append(type_)

    def grown(self, name: str, column: pa.DataType, offered: pa.DataType) -> pa.DataType:
        """A column's type after what `offered` asks of it, as far as that is approved."""
        return widen(column, offered, lambda place, _: type_at(self.allowed.get(name, column), place))

    def accepted(self, name: str, type_: pa.DataType) -> pa.DataType | None:
        """What of a column's type nobody has rejected, None for nothing."""
        return self._accepted(name, (), type_)

    def needs(self, brings: Mapping[str, pa.DataType]) -> tuple[ColumnChange, ...]:
        """What a file with columns of these types asks for beyond `allowed`, and nobody has rejected."""
        changes = []
        for name in sorted(brings):
            before, offered = self.allowed.get(name), in_one_spelling(brings[name])
            if before is None:
                type_ = storable(offered)
                after = None if type_ is None else self._accepted(name, (), self._hints.get(name, type_))
            else:
                after = before if name in self._hints else widen(before, offered, partial(self._accepted, name))
            if after is not None and after != before:
                changes.append(ColumnChange(name, None if before is None else describe(before), describe(after)))
        return tuple(changes)

    def _accepted(self, name: str, place: Place, type_: pa.DataType) -> pa.DataType | None:
        if any(_holds(rejected, type_) for rejected in self._rejected.get((name, place), ())):
            return None
        if is_struct(type_):
            inner = {field: self._accepted(name, (*place, field), of_field) for field, of_field in struct_fields(type_).items()}
            kept = {field: of_field for field, of_field in inner.items() if of_field is not None}
            return struct_of(kept) if kept else None
        if is_list(type_):
            element = self._accepted(name, (*place, ELEMENT), type_.value_type)
            return None if element is None else pa.list_(element)
        if is_map(type_):
            value = self._accepted(name, (*place, VALUE), type_.item_type)
            return None if value is None else pa.map_(type_.key_type, value)
        return type_


def in_one_spelling(type_: pa.DataType) -> pa.DataType:
    """The type with the fields of its objects in the order of their names: files do not agree on one."""
    if is_struct(type_):
        return struct_of({name: in_one_spelling(inner) for name, inner in sorted(struct_fields(type_).items())})
    if is_list(type_):
        return pa.list_(in_one_spelling(type_.value_type))
    if is_map(type_):
        return pa.map_(type_.key_type, in_one_spelling(type_.item_type))
    return type_


def without_a_place(asks_for: tuple[ColumnChange, ...], does_not_fit: Callable[[str], bool]) -> tuple[ColumnChange, ...]:
    """The changes without which a file's values have no place. A number's type alone is not to change before a number does not fit it:
    `does_not_fit` answers whether the file has one, by the column's name.
    """
    kept = tuple(change for change in asks_for if _adds_fields(change.before, change.after) or does_not_fit(change.column))
    return asks_for if len(kept) == len(asks_for) else kept


def _adds_fields(before: str | None, after: str) -> bool:
    """Whether a change is more than promotions of numbers."""
    if before is None:
        return True
    old = parse_type(before)
    return any(type_at(old, place) is None for place, _ in _differences(old, parse_type(after), ()))


def _differences(before: pa.DataType | None, after: pa.DataType, place: Place) -> Iterator[tuple[Place, pa.DataType]]:
    """The places at which the types differ, and what is there afterwards."""
    if before is not None and is_struct(before) and is_struct(after):
        old = struct_fields(before)
        for name, type_ in struct_fields(after).items():
            yield from _differences(old.get(name), type_, (*place, name))
    elif before is not None and is_list(before) and is_list(after):
        yield from _differences(before.value_type, after.value_type, (*place, ELEMENT))
    elif before is not None and is_map(before) and is_map(after):
        yield from _differences(before.item_type, after.item_type, (*place, VALUE))
    elif before != after:
        yield place, after


def _holds(rejected: pa.DataType, type_: pa.DataType) -> bool:
    """Whether the type is the rejected one, or an object with some of its fields."""
    if is_struct(rejected) and is_struct(type_):
        fields = struct_fields(rejected)
        return all(name in fields and _holds(fields[name], inner) for name, inner in struct_fields(type_).items())
    if is_list(rejected) and is_list(type_):
        return _holds(rejected.value_type, type_.value_type)
    if is_map(rejected) and is_map(type_):
        return rejected.key_type == type_.key_type and _holds(rejected.item_type, type_.item_type)
    return bool(rejected == type_)


def _agreed(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Of two approved types of a new column: all fields of both and, where they differ otherwise, the one that holds both."""
    if is_struct(first) and is_struct(second):
        fields = struct_fields(first)
        folded = {name.casefold() for name in fields}
        for name, type_ in struct_fields(second).items():
            if name in fields:
                fields[name] = _agreed(fields[name], type_)
            elif name.casefold() not in folded:
                fields[name] = type_
        return struct_of(fields)
    if is_list(first) and is_list(second):
        return pa.list_(_agreed(first.value_type, second.value_type))
    if is_map(first) and is_map(second) and first.key_type == second.key_type:
        return pa.map_(first.key_type, _agreed(first.item_type, second.item_type))
    both = unify(first, second)
    return both if both in (first, second) else first
