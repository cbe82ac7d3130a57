"""Whoever reads the schema is told what everything is, and why what is deprecated is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLScalarType,
    introspection_types,
    is_specified_directive,
    is_specified_scalar_type,
)

from graphql_api.schema import schema


def elements() -> Iterator[tuple[str, Any]]:
    """Everything of ours in the schema, by its coordinate."""
    for name, type in schema._schema.type_map.items():
        if name in introspection_types or (isinstance(type, GraphQLScalarType) and is_specified_scalar_type(type)):
            continue
        yield name, type
        if isinstance(type, GraphQLObjectType | GraphQLInterfaceType):
            for field_name, field in type.fields.items():
                yield f"{name}.{field_name}", field
                yield from ((f"{name}.{field_name}({argument_name}:)", argument) for argument_name, argument in field.args.items())
        elif isinstance(type, GraphQLInputObjectType):
            yield from ((f"{name}.{field_name}", field) for field_name, field in type.fields.items())
        elif isinstance(type, GraphQLEnumType):
            yield from ((f"{name}.{value_name}", value) for value_name, value in type.values.items())
    for directive in schema._schema.directives:
        if not is_specified_directive(directive):
            yield f"@{directive.name}", directive


def test_everything_has_a_description() -> None:
    found = dict(elements())
    assert {"Query.ingestions(first:)", "CreateIngestionInput.name", "Role.ADMIN", "DateTime", "Subscription"} <= set(found)
    assert [at for at, element in found.items() if not (element.description or "").strip()] == []


def test_every_deprecation_has_a_reason() -> None:
    reasons = {at: getattr(element, "deprecation_reason", None) for at, element in elements()}
    assert [at for at, reason in reasons.items() if reason is not None and reason.strip() in {"", "No longer supported"}] == []
