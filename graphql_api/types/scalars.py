"""Scalars beyond GraphQL's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NewType

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

BigInt = NewType("BigInt", int)

_LARGEST = 2**63


def _parse_big_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_LARGEST <= value < _LARGEST:
        raise GraphQLError("BigInt is a whole number of 64 bits.")
    return value


def _parse_moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise GraphQLError("DateTime is an ISO 8601 text with a time zone, such as 2026-03-02T12:00:00Z.")


def _show_moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt", description="A whole number of 64 bits, as a JSON number.", serialize=int, parse_value=_parse_big_int
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment, in ISO 8601, with a time zone on the way in and in UTC on the way out.",
        serialize=_show_moment,
        parse_value=_parse_moment,
    ),
}
