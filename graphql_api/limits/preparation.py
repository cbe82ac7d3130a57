"""From what a client sent to a document that may be executed: looked up, parsed and validated, whichever way it came in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphql import GraphQLError
from strawberry.extensions import SchemaExtension

from domain.errors import ErrorCode
from graphql_api.context import Context
from graphql_api.limits.documents import prepared
from graphql_api.limits.refusals import Refusal

ID_PREFIX = "sha256:"
"""What the ids of persisted documents begin with, and no document does: an id comes in the place of the text."""

MAX_VARIABLES_DEPTH = 50


def by_id(id: str) -> str:
    """What comes in the place of a document's text when a client names a persisted one."""
    return id if id.startswith(ID_PREFIX) else f"{ID_PREFIX}{id}"


class PrepareDocuments(SchemaExtension):
    """Takes the place of strawberry's parser and validation, and of their caches."""

    _errors: tuple[GraphQLError, ...] = ()

    def on_parse(self) -> Iterator[None]:
        limits, query = self._context.services.limits, self.execution_context.query or ""
        if query.startswith(ID_PREFIX):
            if query not in limits.documents:
                raise Refusal("There is no persisted document with this id.", ErrorCode.NOT_FOUND, status=404)
            query = limits.documents[query]
        elif not self._context.principal.role.includes(limits.free_documents_role):
            message = f"Documents of your own need the role {limits.free_documents_role}: send the id of a persisted document."
            raise Refusal(message, ErrorCode.FORBIDDEN, status=403)
        if _depth(self.execution_context.variables) > MAX_VARIABLES_DEPTH:
            raise Refusal(f"The variables are nested deeper than {MAX_VARIABLES_DEPTH} levels.")
        found = prepared(self.execution_context.schema._schema, query)
        self.execution_context.graphql_document, self._errors = found.document, found.errors
        yield

    def on_validate(self) -> Iterator[None]:
        self.execution_context.pre_execution_errors = list(self._errors)
        yield

    @property
    def _context(self) -> Context:
        context = self.execution_context.context
        assert isinstance(context, Context)
        return context


def _depth(value: Any) -> int:
    """How many objects and lists lie one within the other, level by level; a little past the limit at most."""
    depth, level = 0, [value]
    while level and depth <= MAX_VARIABLES_DEPTH:
        level = [part for part in level if isinstance(part, dict | list)]
        depth += bool(level)
        level = [part for whole in level for part in (whole.values() if isinstance(whole, dict) else whole)]
    return depth
