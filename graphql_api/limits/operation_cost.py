"""What an operation costs, told from its document and its variables before anything of it runs.

A field costs what `@cost` declares beside it, or else 1 when it leads to an object and a tenth when it is a leaf. Below a connection's
`edges` and `nodes` everything costs as often as the page is long (`first`, `last`, or the default). It is an upper bound: a field asked for
twice is counted twice, and so is each branch of a union. Fragments are counted once and used as often as they are spread, so the time that
this takes grows with the document and not with what it stands for. The schema's own lists, which introspection reads, count with their mean
length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from functools import lru_cache
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SchemaMetaFieldDef,
    SelectionSetNode,
    TypeMetaFieldDef,
    ValueNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
    is_composite_type,
)
from graphql.language import BooleanValueNode

from graphql_api.limits.cost_directive import Cost
from graphql_api.relay.connections import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

INTROSPECTION: Mapping[str, GraphQLField] = {"__schema": SchemaMetaFieldDef, "__type": TypeMetaFieldDef}
CEILING = 2**53 - 1
"""The greatest cost that is told: past it JSON numbers lose digits."""
LEAVES = 10
"""How many leaves cost as much as one object. About what they take of the executor's time: `python -m benchmarks operations`."""
_PAGED = frozenset({"edges", "nodes"})


class OperationCost:
    """Of one operation of a valid document. `total` is in objects; `introspects` says whether it asks about the schema."""

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
    ) -> None:
        self._schema = schema
        self._fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        self._costs_of_fragments: dict[tuple[str, int], int] = {}
        self._variables = _defaults(operation) | dict(variables or {})
        self.introspects = False
        root = schema.get_root_type(operation.operation)
        assert root is not None
        self.total = min(self._selections(operation.selection_set, root, page=1) // LEAVES, CEILING)

    def _selections(self, selections: SelectionSetNode | None, type: GraphQLCompositeType, *, page: int) -> int:
        """In leaves. `page` is the length of the page that `type` stands for, when it is a connection."""
        total = 0
        for node in selections.selections if selections else ():
            if not self._is_included(node):
                continue
            if isinstance(node, FieldNode):
                total += self._field(node, type, page)
            elif isinstance(node, InlineFragmentNode):
                inner = self._schema.get_type(node.type_condition.name.value) if node.type_condition else type
                assert is_composite_type(inner)
                total += self._selections(node.selection_set, inner, page=page)
            elif isinstance(node, FragmentSpreadNode):
                total += self._fragment(node.name.value, page)
        return total

    def _fragment(self, name: str, page: int) -> int:
        if (name, page) not in self._costs_of_fragments:
            definition = self._fragments[name]
            type = self._schema.get_type(definition.type_condition.name.value)
            assert is_composite_type(type)
            self._costs_of_fragments[name, page] = self._selections(definition.selection_set, type, page=page)
        return self._costs_of_fragments[name, page]

    def _field(self, node: FieldNode, parent: GraphQLCompositeType, page: int) -> int:
        name = node.name.value
        self.introspects = self.introspects or name in INTROSPECTION
        field = INTROSPECTION.get(name) or (
            parent.fields.get(name) if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) else None
        )
        if field is None:
            # `__typename`, which everything has.
            return 1
        type = get_named_type(field.type)
        if not is_composite_type(type):
            return weight_of(field, leaf=True)
        below = self._selections(node.selection_set, type, page=self._page(node, field))
        times = page if name in _PAGED else introspected(self._schema).get((parent.name, name), 1)
        return times * (weight_of(field, leaf=False) + below)

    def _page(self, node: FieldNode, field: GraphQLField) -> int:
        if "first" not in field.args:
            return 1
        given = {argument.name.value: self._value(argument.value) for argument in node.arguments or ()}
        size = next((size for size in (given.get("last"), given.get("first")) if isinstance(size, int)), DEFAULT_PAGE_SIZE)
        # Beyond its limits it will be refused; here it must not make anything cheap.
        return min(max(size, 0), MAX_PAGE_SIZE)

    def _is_included(self, node: FieldNode | InlineFragmentNode | FragmentSpreadNode | Any) -> bool:
        for directive in node.directives or ():
            condition = next((self._value(argument.value) for argument in directive.arguments or () if argument.name.value == "if"), None)
            if (directive.name.value, condition) in (("skip", True), ("include", False)):
                return False
        return True

    def _value(self, node: ValueNode) -> Any:
        if isinstance(node, VariableNode):
            value = self._variables.get(node.name.value)
            # JSON's `100.0`: the executor takes it for the integer that it is.
            return int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(node, IntValueNode):
            return int(node.value)
        return node.value if isinstance(node, BooleanValueNode) else None


def _defaults(operation: OperationDefinitionNode) -> dict[str, Any]:
    return {
        definition.variable.name.value: int(definition.default_value.value)
        if isinstance(definition.default_value, IntValueNode)
        else getattr(definition.default_value, "value", None)
        for definition in operation.variable_definitions or ()
    }


def weight_of(field: GraphQLField, *, leaf: bool) -> int:
    """What the field costs by itself, in leaves."""
    declared = getattr(field.extensions.get("strawberry-definition"), "directives", ())
    return next((directive.weight * LEAVES for directive in declared if isinstance(directive, Cost)), 1 if leaf else LEAVES)


@lru_cache(maxsize=1)
def introspected(schema: GraphQLSchema) -> Mapping[tuple[str, str], int]:
    """The mean lengths of the lists that tell about the schema, by type and field: over all types, those without such a list included."""
    types = [type for type in schema.type_map.values() if not type.name.startswith("__")]
    fields = [field for type in types if isinstance(type, GraphQLObjectType | GraphQLInterfaceType) for field in type.fields.values()]
    return {
        ("__Schema", "types"): len(schema.type_map),
        ("__Schema", "directives"): len(schema.directives),
        ("__Type", "fields"): _mean(len(fields), types),
        ("__Type", "inputFields"): _mean(sum(len(type.fields) for type in types if isinstance(type, GraphQLInputObjectType)), types),
        ("__Type", "enumValues"): _mean(sum(len(type.values) for type in types if isinstance(type, GraphQLEnumType)), types),
        ("__Type", "possibleTypes"): _mean(sum(len(schema.get_possible_types(type)) for type in types if is_abstract_type(type)), types),
        ("__Field", "args"): _mean(sum(len(field.args) for field in fields), fields),
    }


def _mean(total: int, of: Sized) -> int:
    return math.ceil(total / max(1, len(of)))
