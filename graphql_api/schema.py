"""The schema, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter, ParserCache, QueryDepthLimiter, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.graphql import OperationType

import graphql_api.types.enums  # noqa: F401  # registers the domain's enums before any type that uses them
from graphql_api.limits.extension import LimitOperations
from graphql_api.masking import MaskUnexpectedErrors
from graphql_api.observation import ObserveOperations
from graphql_api.operations.mutations import Mutation
from graphql_api.operations.queries import Query
from graphql_api.operations.subscriptions import Subscription
from graphql_api.types.errors import EXCEPTION_HANDLERS
from graphql_api.types.processed_file import FileAttempt, ProcessedFile
from graphql_api.types.scalars import SCALARS
from graphql_api.types.schema_version import SchemaVersion

MAX_DEPTH = 15
MAX_ALIASES = 50
MAX_TOKENS = 5_000
CACHED_DOCUMENTS = 500


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
        LimitOperations,
        lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
        lambda: MaxAliasesLimiter(max_alias_count=MAX_ALIASES),
        lambda: QueryDepthLimiter(max_depth=MAX_DEPTH),
        lambda: ParserCache(maxsize=CACHED_DOCUMENTS),
        lambda: ValidationCache(maxsize=CACHED_DOCUMENTS),
    ],
)


def sdl() -> str:
    """The schema in GraphQL's own language, as `schema.graphql` holds it."""
    return schema.as_str() + "\n"
