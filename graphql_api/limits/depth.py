"""How deep an operation is, fragments followed."""

from __future__ import annotations

from typing import Any

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
)

from graphql_api.limits.refusals import Refusal

MAX_DEPTH = 15


class MaxDepth(ValidationRule):
    """Refuses operations in which a field lies below more than `MAX_DEPTH` others.

    Each fragment is looked at once, however often it is spread. A fragment that leads back to itself adds nothing here: another rule
    refuses it.
    """

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._fragments: dict[str, int] = {}

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        if self._depth_of(node.selection_set) > MAX_DEPTH:
            name = f"'{node.name.value}'" if node.name else "The operation"
            self.report_error(Refusal(f"{name} is nested deeper than {MAX_DEPTH} levels."))

    def _depth_of(self, selections: SelectionSetNode) -> int:
        """How many fields with fields of their own lie one within the other."""
        depth = 0
        for selection in selections.selections:
            if isinstance(selection, FragmentSpreadNode):
                below = self._depth_of_fragment(selection.name.value)
            elif isinstance(selection, InlineFragmentNode):
                below = self._depth_of(selection.selection_set)
            else:
                assert isinstance(selection, FieldNode)
                below = 0 if selection.selection_set is None else 1 + self._depth_of(selection.selection_set)
            depth = max(depth, below)
        return depth

    def _depth_of_fragment(self, name: str) -> int:
        if name not in self._fragments:
            self._fragments[name] = 0
            if fragment := self.context.get_fragment(name):
                self._fragments[name] = self._depth_of(fragment.selection_set)
        return self._fragments[name]
