"""The schema, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions.runner import SchemaExtensionsRunner
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

import graphql_api.types.enums  # noqa: F401  # registers the domain's enums before any type that uses them
from graphql_api.limits.extension import LimitOperations
from graphql_api.limits.preparation import PrepareDocuments
from graphql_api.masking import MaskUnexpectedErrors
from graphql_api.observation import ObserveOperations
from graphql_api.operations.mutations import Mutation
from graphql_api.operations.queries import Query
from graphql_api.operations.subscriptions import Subscription
from graphql_api.types.errors import EXCEPTION_HANDLERS
from graphql_api.types.processed_file import FileAttempt, ProcessedFile
from graphql_api.types.scalars import SCALARS
from graphql_api.types.schema_version import SchemaVersion


class _Schema(strawberry.Schema):
    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,
        root_value: Any | None = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """For operations with one answer. Subscriptions have many, and are for `stream`."""
        allowed = set(allowed_operation_types or OperationType) - {OperationType.SUBSCRIPTION}
        return await super().execute(query, variable_values, context_value, root_value, operation_name, allowed, operation_extensions)

    async def _prepare_operation_async(
        self, context: ExecutionContext, extensions_runner: SchemaExtensionsRunner
    ) -> PreExecutionError | None:
        """What an extension refuses is told like what the library finds wrong by itself, in streams too."""
        try:
            return await super()._prepare_operation_async(context, extensions_runner)
        except GraphQLError as error:
            context.pre_execution_errors = [error]
            return PreExecutionError(data=None, errors=[error])

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Nothing is logged here: expected errors are no news, and masking logs the others under their ids."""


schema = _Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[ProcessedFile, FileAttempt, SchemaVersion],
    config=StrawberryConfig(scalar_map=SCALARS),
    exception_handlers=EXCEPTION_HANDLERS,
    extensions=[
        ObserveOperations,
        MaskUnexpectedErrors,
        PrepareDocuments,
        LimitOperations,
    ],
)


def sdl() -> str:
    """The schema in GraphQL's own language, as `schema.graphql` holds it."""
    return schema.as_str() + "\n"
