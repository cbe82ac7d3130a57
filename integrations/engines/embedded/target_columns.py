"""The columns that a batch writes: the table's, the hinted, and what the files bring, under the schema-evolution policy."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from domain.ingestions.entities import ColumnHint, SchemaEvolution
from domain.ports.engine import BATCH_ID_COLUMN, NO_DECISIONS, RESCUED_DATA_COLUMN, SOURCE_FILE_COLUMN, ColumnChange, Decisions
from integrations.engines.embedded.column_decisions import ColumnDecisions
from integrations.engines.embedded.column_types import NULL, parse_type
from integrations.engines.embedded.parts import INTERNAL_PREFIX
from integrations.engines.embedded.type_merging import case_collision, full_name_twice, storable, unify, widen

RESERVED_COLUMNS = frozenset({SOURCE_FILE_COLUMN, BATCH_ID_COLUMN, RESCUED_DATA_COLUMN})
MOST_COLUMNS = 5_000
"""More than this is data used as names (one column per id, say), and would make the table unusable."""


class ColumnNamesError(ValueError):
    """A file's column names cannot be the table's; the message tells a person which and why."""


class TargetColumns:
    """Grows while files are read; safe to use from several threads.

    `existing` is None when the table is to be created: then nothing but hints is pinned, all columns are taken, and columns
    that files disagree about become text.
    """

    def __init__(
        self,
        existing: Mapping[str, pa.DataType] | None,
        hints: Sequence[ColumnHint],
        evolution: SchemaEvolution,
        decisions: Decisions = NO_DECISIONS,
    ) -> None:
        self.evolution = evolution
        self.creating = existing is None
        self._hints = {hint.column: parse_type(hint.type) for hint in hints}
        self._existing = dict(existing or {})
        self._columns = dict(self._existing)
        self._empty: frozenset[str] = frozenset()
        self._asks = evolution is SchemaEvolution.REQUIRE_APPROVAL
        self._decisions = ColumnDecisions(self._existing, self._hints, decisions if self._asks else NO_DECISIONS)
        self._by_folded_name = {name.casefold(): name for name in self._decisions.allowed}
        self._needed: dict[tuple[ColumnChange, ...], tuple[ColumnChange, ...]] = {}
        self._lock = threading.Lock()

    @property
    def columns(self) -> dict[str, pa.DataType]:
        with self._lock:
            return dict(self._columns)

    @property
    def empty(self) -> frozenset[str]:
        """Names that files bring with nothing but nulls: no columns yet, and nothing to lose."""
        return self._empty

    @property
    def takes_new_columns(self) -> bool:
        return self.creating or self.evolution is SchemaEvolution.ADD_NEW_COLUMNS

    @property
    def hints(self) -> Mapping[str, pa.DataType]:
        return self._hints

    @property
    def asks(self) -> bool:
        """Whether what a file brings beyond the table's columns is for people to decide."""
        return self._asks and not self.creating

    @property
    def decided(self) -> Mapping[str, pa.DataType]:
        """The table's columns, and those that it may get without anybody being asked."""
        return self._decisions.allowed

    def needs(self, brings: Mapping[str, pa.DataType]) -> tuple[ColumnChange, ...]:
        """What somebody has to decide on before a file with these columns can be loaded whole."""
        if not self.asks:
            return ()
        needed = self._decisions.needs(brings)
        # Thousands of files may bring the same thousands of columns: one tuple for all.
        with self._lock:
            return self._needed.setdefault(needed, needed)

    def is_new(self, name: str) -> bool:
        return name not in self._existing

    def check_names(self, names: Sequence[str]) -> None:
        """Raise `ColumnNamesError` when the names of one file cannot all be columns of this table."""
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise ColumnNamesError(f'The file has the column "{twice[0]}" twice.')
        seen: dict[str, str] = {}
        for name in names:
            if not name.strip():
                raise ColumnNamesError("A column has an empty name.")
            if name in RESERVED_COLUMNS or name.startswith(INTERNAL_PREFIX):
                raise ColumnNamesError(f'The column name "{name}" is reserved for the table\'s own use: rename the column in the file.')
            folded = name.casefold()
            other = seen.setdefault(folded, name)
            if other == name:
                other = self._by_folded_name.get(folded, name)
            if other != name:
                raise ColumnNamesError(f'The columns "{other}" and "{name}" differ only in case, which a table cannot hold: rename one.')

    def check_types(self, types: Mapping[str, pa.DataType]) -> None:
        """The same for names and types of columns: objects have names inside, too."""
        self.check_names(list(types))
        for name, type_ in types.items():
            for column in (self._columns.get(name), self._decisions.allowed.get(name)):
                if found := case_collision(type_, column):
                    one, other = found
                    message = f'The fields "{one}" and "{other}" in "{name}" differ only in case, which a table cannot hold: rename one.'
                    raise ColumnNamesError(message)

    def offer(self, observed: Mapping[str, pa.DataType]) -> None:
        """Take what a readable file brings, as far as the policy allows. Raises `ColumnNamesError`, and then nothing was taken."""
        with self._lock:
            self.check_types(observed)
            columns = dict(self._columns)
            empty = set(self._empty)
            for name, type_ in observed.items():
                if name in columns:
                    columns[name] = self._grown(name, columns[name], type_)
                elif self.takes_new_columns or name in self._decisions.allowed:
                    stored = storable(type_)
                    if stored is None:
                        empty.add(name)
                    elif (taken := self._taken(name, stored)) is not None:
                        columns[name] = taken
                elif type_ == NULL:
                    empty.add(name)
            if len(columns) > max(MOST_COLUMNS, len(self._existing)):
                raise ColumnNamesError(
                    f"The file would bring the table to {len(columns)} columns, more than {MOST_COLUMNS}: are values used as names?"
                    " Pin such a column as a map or a string."
                )
            if columns != self._columns and (full_name := full_name_twice(columns)) is not None:
                message = f'A column and a field inside another would both have the full name "{full_name}"'
                raise ColumnNamesError(f"{message}, which a table cannot hold: rename one.")
            self._columns = columns
            self._empty = frozenset(empty - set(columns))
            self._by_folded_name.update({name.casefold(): name for name in columns})

    def drop(self, names: Sequence[str]) -> None:
        """Forget new columns that only files brought which have failed."""
        with self._lock:
            for name in names:
                del self._columns[name]

    def _taken(self, name: str, offered: pa.DataType) -> pa.DataType | None:
        """The type of a new column, None when it was rejected."""
        if name in self._hints:
            return self._decisions.accepted(name, self._hints[name])
        return self._decisions.allowed.get(name) or self._decisions.accepted(name, offered)

    def _grown(self, name: str, column: pa.DataType, offered: pa.DataType) -> pa.DataType:
        if name in self._hints:
            return column
        if self.asks:
            return self._decisions.grown(name, column, offered)
        if name in self._existing:
            return widen(column, offered) if self.takes_new_columns else column
        accepted = self._decisions.accepted(name, offered) or NULL
        return storable(unify(column, accepted)) or column
