"""Refuses what is not allowed or costs too much before anything of it runs, whichever way it came in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphql import GraphQLError, get_operation_ast
from strawberry.extensions import SchemaExtension
from strawberry.types.graphql import OperationType

from domain.errors import ErrorCode
from graphql_api.context import Context
from graphql_api.limits.operation_cost import OperationCost


class LimitOperations(SchemaExtension):
    """Looks at documents that were found valid. Shows what they cost."""

    _shown: dict[str, int] | None = None

    def on_execute(self) -> Iterator[None]:
        refusal = self._refusal()
        if refusal is not None:
            # Strawberry makes it the answer, in place of the execution.
            raise refusal
        yield

    def get_results(self) -> dict[str, Any]:
        # Of a subscription it would be said with each event.
        told = self._shown is not None and self.execution_context.operation_type is not OperationType.SUBSCRIPTION
        return {"cost": self._shown} if told else {}

    def _refusal(self) -> GraphQLError | None:
        context, document = self.execution_context.context, self.execution_context.graphql_document
        assert isinstance(context, Context)
        assert document is not None
        operation = get_operation_ast(document, self.execution_context.operation_name)
        if operation is None:
            # Which operation is meant is not told: the executor says so.
            return None
        limits = context.services.limits
        cost = OperationCost(self.execution_context.schema._schema, document, operation, self.execution_context.variables)
        self._shown = {"requested": cost.total, "limit": limits.operation_cost}
        if cost.introspects and not limits.introspection:
            return _error("The schema does not answer questions about itself here; read schema.graphql.", ErrorCode.FORBIDDEN)
        if cost.total > limits.operation_cost:
            message = f"The operation costs {cost.total}, more than {limits.operation_cost}: ask for shorter pages, or for less below them."
            return _error(message, ErrorCode.LIMIT_EXCEEDED)
        wait = limits.rate.take(context.principal.tenant.id, cost.total)
        if wait:
            message = f"Your tenant asks for more than it may in so short a time; try again in {wait:g} seconds."
            return _error(message, ErrorCode.LIMIT_EXCEEDED, retryAfterSeconds=wait)
        return None


def _error(message: str, code: ErrorCode, **extensions: float) -> GraphQLError:
    return GraphQLError(message, extensions={"code": code.value, **extensions})
