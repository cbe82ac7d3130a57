"""Column types for the domain's enums and value objects."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import CheckConstraint, Column, Dialect, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB

from domain.text import readable

V = TypeVar("V")
S = TypeVar("S", bound=StrEnum)


class EnumText(TypeDecorator[S], Generic[S]):
    """A `StrEnum` as text; pair it with `one_of`, which makes the database hold its values."""

    impl = Text
    cache_ok = True

    def __init__(self, enum: type[S]) -> None:
        super().__init__()
        self.enum = enum

    def process_bind_param(self, value: S | None, dialect: Dialect) -> str | None:
        return None if value is None else value.value

    def process_result_value(self, value: str | None, dialect: Dialect) -> S | None:
        return None if value is None else self.enum(value)


class Message(TypeDecorator[str]):
    """Text for people that may quote anything, a file's bytes included: what the database cannot hold is replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else readable(value)


def one_of(column: str, enum: type[StrEnum]) -> CheckConstraint:
    values = ", ".join(f"'{member.value}'" for member in enum)
    return CheckConstraint(f"{column} IN ({values})", name=column)


class ValueObject(TypeDecorator[V], Generic[V]):
    """A frozen dataclass of the domain as JSONB."""

    impl = JSONB
    cache_ok = True

    def __init__(self, type: type[V]) -> None:
        super().__init__(none_as_null=True)
        self.type = type
        self._adapter = TypeAdapter[V](type)

    def process_bind_param(self, value: V | None, dialect: Dialect) -> Any:
        return None if value is None else self._adapter.dump_python(value, mode="json")

    def process_result_value(self, value: Any, dialect: Dialect) -> V | None:
        return None if value is None else self._adapter.validate_python(value)


def enum_column(name: str, enum: type[StrEnum]) -> Column[Any]:
    return Column(name, EnumText(enum), nullable=False)
