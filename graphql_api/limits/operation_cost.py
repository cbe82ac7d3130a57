"""What an operation costs, told from its document and its variables before anything of it runs.

A field costs what `@cost` declares beside it, or else 1 when it leads to an object and 0 when it is a leaf. Below a connection's `edges`
and `nodes` everything costs as often as the page is long (`first`, `last`, or the default). It is an upper bound: a field asked for twice
is counted twice, and so is each branch of a union. Fragments are counted once and used as often as they are spread, so the time that this
takes grows with the document and not with what it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    is_composite_type,
)
from graphql.language import BooleanValueNode

from graphql_api.limits.cost_directive import Cost
from graphql_api.relay.connections import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

INTROSPECTION = frozenset({"__schema", "__type"})
_INTROSPECTION_COST = 100
_PAGED = frozenset({"edges", "nodes"})


class OperationCost:
    """Of one operation of a valid document. `introspects` says whether it asks about the schema."""

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
        self.total = self._selections(operation.selection_set, root, page=1)

    def _selections(self, selections: SelectionSetNode | None, type: GraphQLCompositeType, *, page: int) -> int:
        """`page` is the length of the page that `type` stands for, when it is a connection."""
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
        if name in INTROSPECTION:
            self.introspects = True
            return _INTROSPECTION_COST
        if not isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) or name not in parent.fields:
            return 0
        field = parent.fields[name]
        type = get_named_type(field.type)
        if not is_composite_type(type):
            return weight_of(field, leaf=True)
        below = self._selections(node.selection_set, type, page=self._page(node, field))
        times = page if name in _PAGED else 1
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
            return self._variables.get(node.name.value)
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
    """What the field costs by itself."""
    declared = getattr(field.extensions.get("strawberry-definition"), "directives", ())
    return next((directive.weight for directive in declared if isinstance(directive, Cost)), 0 if leaf else 1)
