"""Errors on their way out: expected ones with their code, unexpected ones behind an id that the log carries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from uuid import uuid4

from graphql import ExecutionResult as GraphQLExecutionResult
from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError
from strawberry.extensions import SchemaExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import StreamExecutionResult
from strawberry.types.execution import ExecutionResult
from strawberry.utils.str_converters import to_camel_case

from domain.errors import DomainError, ValidationError

log = logging.getLogger(__name__)

_OF_THE_REQUEST = (GraphQLError, MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)
INTERNAL_ERROR = "Internal error. The server's log tells more under its id."


def shown(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it. What the client's own document did wrong stays as it is."""
    cause = error.original_error
    if cause is None or isinstance(cause, _OF_THE_REQUEST):
        return error
    if isinstance(cause, DomainError):
        extensions: dict[str, object] = {"code": cause.code.value}
        if isinstance(cause, ValidationError):
            extensions["fields"] = [{"path": [to_camel_case(part) for part in f.path], "message": f.message} for f in cause.fields]
        return _replaced(error, cause.message, extensions)
    error_id = uuid4().hex
    log.error("unexpected error %s at %s", error_id, error.path, exc_info=cause)
    return _replaced(error, INTERNAL_ERROR, {"code": "INTERNAL", "errorId": error_id})


def _replaced(error: GraphQLError, message: str, extensions: dict[str, object]) -> GraphQLError:
    return GraphQLError(message, nodes=error.nodes, source=error.source, positions=error.positions, path=error.path, extensions=extensions)


class MaskUnexpectedErrors(SchemaExtension):
    def on_operation(self) -> Iterator[None]:
        yield
        result = self.execution_context.result
        if isinstance(result, ExecutionResult | GraphQLExecutionResult) and result.errors:
            result.errors = [shown(error) for error in result.errors]

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:
        if isinstance(result, ExecutionResult) and result.errors:
            result.errors = [shown(error) for error in result.errors]
        yield
