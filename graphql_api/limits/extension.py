"""Refuses what is not allowed or costs too much before anything of it runs, whichever way it came in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from graphql import get_operation_ast
from strawberry.extensions import SchemaExtension
from strawberry.types.graphql import OperationType

from domain.errors import ErrorCode
from graphql_api.context import Context
from graphql_api.limits.operation_cost import OperationCost
from graphql_api.limits.refusals import Refusal


class LimitOperations(SchemaExtension):
    """Looks at documents that were found valid. Shows what they cost."""

    _shown: dict[str, int] | None = None

    def on_validate(self) -> Iterator[None]:
        if not self.execution_context.pre_execution_errors:
            try:
                self._refuse()
            except Refusal as refusal:
                # For streams it matters that this is told before the execution, not as its result.
                self.execution_context.pre_execution_errors = [refusal]
        yield

    async def on_execute(self) -> AsyncIterator[None]:
        seconds = self._context.services.limits.seconds
        try:
            async with asyncio.timeout(seconds) as time:
                yield
        except TimeoutError:
            if not time.expired():
                raise
            raise Refusal(f"The operation took longer than {seconds:g} seconds, and was stopped.", status=503) from None

    def get_results(self) -> dict[str, Any]:
        # Of a subscription it would be said with each event.
        told = self._shown is not None and self.execution_context.operation_type is not OperationType.SUBSCRIPTION
        return {"cost": self._shown} if told else {}

    @property
    def _context(self) -> Context:
        context = self.execution_context.context
        assert isinstance(context, Context)
        return context

    def _refuse(self) -> None:
        """Raises `Refusal`."""
        document = self.execution_context.graphql_document
        assert document is not None
        operation = get_operation_ast(document, self.execution_context.operation_name)
        if operation is None:
            # Which operation is meant is not told: the executor says so.
            return
        limits = self._context.services.limits
        cost = OperationCost(self.execution_context.schema._schema, document, operation, self.execution_context.variables)
        self._shown = {"requested": cost.total, "limit": limits.operation_cost}
        if cost.introspects and not limits.introspection:
            raise Refusal("The schema does not answer questions about itself here; read schema.graphql.", ErrorCode.FORBIDDEN, status=403)
        if cost.total > limits.operation_cost:
            raise Refusal(
                f"The operation costs {cost.total}, more than {limits.operation_cost}: ask for shorter pages, or for less below them."
            )
        wait = limits.rate.take(self._context.principal.tenant.id, cost.total)
        if wait:
            message = f"Your tenant asks for more than it may in so short a time; try again in {wait:g} seconds."
            raise Refusal(message, status=429, retry_after_seconds=wait)
