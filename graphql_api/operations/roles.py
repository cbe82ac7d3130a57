"""The role matrix, read off the schema: what each operation asks for, as it is declared beside it."""

from __future__ import annotations

from dataclasses import dataclass

from strawberry.types import get_object_definition
from strawberry.types.field import StrawberryField

from domain.tenants import Role
from graphql_api.operations.authorization import RequireRole
from graphql_api.schema import schema


@dataclass(frozen=True, slots=True)
class OperationRole:
    """`root` is Query, Mutation or Subscription."""

    root: str
    field: str
    role: Role


def operation_roles() -> list[OperationRole]:
    """Every root field of the schema, in its order."""
    names = schema.config.name_converter
    roots = [get_object_definition(root, strict=True) for root in (schema.query, schema.mutation, schema.subscription) if root is not None]
    return [OperationRole(names.from_type(root), names.from_field(field), role_of(field)) for root in roots for field in root.fields]


def role_of(field: StrawberryField) -> Role:
    """What the field asks for: VIEWER unless it says more."""
    return next((extension.least for extension in field.extensions if isinstance(extension, RequireRole)), Role.VIEWER)
