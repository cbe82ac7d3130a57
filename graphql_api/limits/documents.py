"""Documents on their way in: parsed and validated in bounded time and memory, and remembered.

What graphql-core bounds itself: tokens and comments, nesting within a definition and through fragments, and the comparisons of fields that
share a name. Here the rest is bounded by counting, before any rule looks at the document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    Node,
    parse,
    specified_rules,
    validate,
)
from graphql.validation.rules import overlapping_fields_can_be_merged
from graphql.validation.validate import ValidationAbortedError

from domain.text import readable
from graphql_api.limits.depth import MaxDepth
from graphql_api.limits.refusals import Refusal

MAX_TOKENS = 5_000
MAX_COMMENTS = 1_000
MAX_FIELDS = 500
MAX_ALIASES = 50
MAX_FRAGMENTS = 100
MAX_DIRECTIVES = 100
MAX_FIELD_DIRECTIVES = 5
MAX_NAME = 200
MAX_ERRORS = 10
MAX_MESSAGE = 500
MAX_LOCATIONS = 10
MAX_COMPARING = 50_000
"""What graphql-core may spend on comparing fields that share a name, in its own units; it would spend ten times that. Documents that people
and tools write spend next to nothing."""

# To be assigned, says the library: there is no argument for it.
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = MAX_COMPARING

_PAST_A_LIMIT = " Parsing aborted."
"""How graphql-core ends what it says of a document that has too much of something, and nothing else: what it quotes is closed."""

_CACHED_DOCUMENTS = 250
_CACHED_LENGTH = 10_000
"""A parsed document of 5,000 tokens takes 2 MB: what is remembered is bounded in both directions."""

_RULES = (*specified_rules, MaxDepth)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that may be executed when there are no `errors`."""

    document: DocumentNode
    errors: tuple[GraphQLError, ...]


def prepared(schema: GraphQLSchema, source: str) -> Prepared:
    """Raises `GraphQLError` for what cannot be parsed, or is past a limit."""
    try:
        return (_remembered if len(source) <= _CACHED_LENGTH else _prepare)(schema, source)
    except GraphQLSyntaxError as error:
        if error.message.endswith(_PAST_A_LIMIT):
            raise Refusal(error.message.removeprefix("Syntax Error: ")) from None
        raise _short(error) from None


def _prepare(schema: GraphQLSchema, source: str) -> Prepared:
    document = parse(source, max_lexical_tokens=MAX_TOKENS, max_comments=MAX_COMMENTS)
    _check_counts(document)
    errors = validate(schema, document, _RULES, max_errors=MAX_ERRORS)
    if len(errors) <= MAX_ERRORS and any(isinstance(error, ValidationAbortedError) for error in errors):
        # Not for the number of its errors: graphql-core has spent what it may, or all of its stack.
        errors = [Refusal("The document repeats its fields too often, or nests them too deeply, to be checked.")]
    return Prepared(document, tuple(map(_short, errors)))


def _short(error: GraphQLError) -> GraphQLError:
    """The error without most of what it may quote: the client has its own document."""
    if isinstance(error, Refusal):
        return error
    positions = list(error.positions)[:MAX_LOCATIONS] if error.positions else None
    return GraphQLError(readable(error.message, limit=MAX_MESSAGE), source=error.source, positions=positions)


_remembered = lru_cache(maxsize=_CACHED_DOCUMENTS)(_prepare)


def _check_counts(document: DocumentNode) -> None:
    seen: Counter[str] = Counter()
    limits = {"fields": MAX_FIELDS, "aliases": MAX_ALIASES, "fragments": MAX_FRAGMENTS, "directives": MAX_DIRECTIVES}
    for node in _nodes(document):
        seen["fields"] += isinstance(node, FieldNode)
        seen["aliases"] += isinstance(node, FieldNode) and node.alias is not None
        seen["fragments"] += isinstance(node, FragmentDefinitionNode)
        seen["directives"] += isinstance(node, DirectiveNode)
        if len(getattr(node, "directives", None) or ()) > MAX_FIELD_DIRECTIVES:
            raise Refusal(f"One place of the document has more than {MAX_FIELD_DIRECTIVES} directives.")
        if isinstance(value := getattr(node, "value", None), str) and node.kind == "name" and len(value) > MAX_NAME:
            raise Refusal(f"A name in the document is longer than {MAX_NAME} characters.")
    for what, limit in limits.items():
        if seen[what] > limit:
            raise Refusal(f"The document has more than {limit} {what}.")


def _nodes(document: DocumentNode) -> Iterator[Node]:
    """Every node, without recursion."""
    waiting: list[Node] = [document]
    while waiting:
        node = waiting.pop()
        yield node
        for key in node.keys:
            part = getattr(node, key, None)
            if isinstance(part, Node):
                waiting.append(part)
            elif isinstance(part, list | tuple):
                waiting.extend(element for element in part if isinstance(element, Node))
