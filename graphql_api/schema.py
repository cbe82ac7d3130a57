"""The schema, put together."""

from __future__ import annotations

import strawberry
from graphql import GraphQLError
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter, ParserCache, QueryDepthLimiter, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

import graphql_api.types.enums  # noqa: F401  # registers the domain's enums before any type that uses them
from graphql_api.masking import MaskUnexpectedErrors
from graphql_api.observation import ObserveOperations
from graphql_api.operations.mutations import Mutation
from graphql_api.operations.queries import Query
from graphql_api.types.errors import EXCEPTION_HANDLERS
from graphql_api.types.processed_file import FileAttempt, ProcessedFile
from graphql_api.types.scalars import SCALARS
from graphql_api.types.schema_version import SchemaVersion

MAX_DEPTH = 15
MAX_ALIASES = 50
MAX_TOKENS = 5_000
CACHED_DOCUMENTS = 500


class _Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Nothing is logged here: expected errors are no news, and masking logs the others under their ids."""


schema = _Schema(
    query=Query,
    mutation=Mutation,
    types=[ProcessedFile, FileAttempt, SchemaVersion],
    config=StrawberryConfig(scalar_map=SCALARS),
    exception_handlers=EXCEPTION_HANDLERS,
    extensions=[
        ObserveOperations,
        MaskUnexpectedErrors,
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
