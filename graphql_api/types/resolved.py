"""API types that are resolved from the domain's own objects, so that nothing is copied on the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from graphql import GraphQLResolveInfo

T = TypeVar("T", bound=type)


def resolved_from(entity: type) -> Callable[[T], T]:
    """Let values of `entity` stand for the type in unions and interfaces. To be applied before strawberry's decorator."""

    def decorate(type: T) -> T:
        def is_type_of(value: object, _info: GraphQLResolveInfo[object]) -> bool:
            return isinstance(value, entity)

        type.is_type_of = staticmethod(is_type_of)  # type: ignore[attr-defined]  # the attribute by which strawberry asks
        return type

    return decorate
