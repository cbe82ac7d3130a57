"""Hostile documents: refused, or read in bounded time, with a small answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from graphql import GraphQLError, get_introspection_query, parse, validate
from graphql.validation.rules import overlapping_fields_can_be_merged

from graphql_api.limits.depth import MAX_DEPTH
from graphql_api.limits.documents import (
    MAX_ALIASES,
    MAX_COMMENTS,
    MAX_DIRECTIVES,
    MAX_FIELD_DIRECTIVES,
    MAX_FIELDS,
    MAX_FRAGMENTS,
    MAX_NAME,
    MAX_TOKENS,
    prepared,
)
from graphql_api.schema import schema
from tests.integration.graphql_api.test_reads import DASHBOARD

SECONDS = 3.0
"""About ten times what the worst of them takes on a machine that does nothing else."""
LARGEST_ANSWER = 10_000


def _chain(length: int, spreads: int, *, end: str = "__typename") -> str:
    fragments = "".join(f" fragment F{i} on Query {{ {f'...F{i + 1} ' * spreads} }}" for i in range(length))
    return f"{{ ...F0 }}{fragments} fragment F{length} on Query {{ {end} }}"


def _deep(levels: int) -> str:
    return '{ node(id: "x") { ... on Run { ' + "retryOf { " * levels + "id " + "} " * levels + "} } }"


HOSTILE = {
    "the same field": "{ viewer { " + "tenant " * (MAX_FIELDS - 1) + "} }",
    "the same fields, nested": "{" + "viewer { tenant } " * (MAX_FIELDS // 2) + "}",
    "fields that conflict": "{" + "a: viewer { tenant } a: ingestions { totalCount } " * (MAX_ALIASES // 2) + "}",
    "the same arguments": "{" + 'ingestions(first: 1, last: 2, after: "a", before: "b") { totalCount } ' * 200 + "}",
    "the same arguments of a long text": "{" + f'__typename(a: "{"x" * 1_900}") ' * (MAX_FIELDS - 20) + "}",
    "the same valid arguments": "{" + f'node(id: "{"x" * 3_500}") {{ id }} ' * (MAX_FIELDS // 2) + "}",
    "many operations with the same variables": " ".join(f"query Q{i}($v: String) {{ ...F }}" for i in range(50))
    + f" fragment F on Query {{ ingestions(filter: {{{'nameContains: $v ' * 1_050}}}) {{ totalCount }} }}",
    "many fragments side by side": "{ "
    + " ".join(f"...F{i}" for i in range(MAX_FRAGMENTS))
    + " }"
    + "".join(f" fragment F{i} on Query {{ viewer {{ {'tenant ' * 3} }} }}" for i in range(MAX_FRAGMENTS)),
    "fragments that double": _chain(MAX_FRAGMENTS - 1, 2),
    "fragments that multiply": _chain(60, 15),
    "a cycle": "{ ...A ...A } fragment A on Query { ...B ...B } fragment B on Query { ...A ...A }",
    "a cycle below a field": '{ node(id: "x") { ...A } } fragment A on Run { retryOf { ...A retryOf { ...A } } }',
    "unknown fields": "{" + " ".join(f"unknown{i}" for i in range(MAX_FIELDS)) + "}",
    "many wrong inputs": "mutation { createIngestion(input: {" + " ".join(f"a{i}: 1" for i in range(1_500)) + "}) { __typename } }",
    "the same wrong input": "mutation { createIngestion(input: {" + "name: 1 " * 1_500 + "}) { __typename } }",
    "many variables": "query (" + " ".join(f"$v{i}: Int" for i in range(1_200)) + ") { __typename }",
    "many operations": " ".join(f"query Q{i} {{ ...F0 }}" for i in range(500)) + _chain(90, 2)[len("{ ...F0 }") :],
    "a long text": '{ ingestions(first: "' + "x" * 900_000 + '") { totalCount } }',
    "a long comment": "#" + "x" * 900_000 + "\n{ unknown }",
    "many comments": "#\n" * 400_000 + "{ unknown }",
    "nested ten thousand times": "{ viewer " * 10_000,
    "lists ten thousand deep": "{ runs(first: " + "[" * 10_000,
    "types ten thousand deep": "query ($v: " + "[" * 10_000,
    "inline fragments, nested": "{" + "... {" * 190 + "unknown" + "}" * 191,
}


def _problems(document: str) -> list[GraphQLError]:
    try:
        return list(prepared(schema._schema, document).errors)
    except GraphQLError as error:
        return [error]


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_document_takes_bounded_time_and_gets_a_small_answer(document: str) -> None:
    began = time.process_time()
    problems = _problems(document)
    assert time.process_time() - began < SECONDS
    assert len(json.dumps([problem.formatted for problem in problems])) < LARGEST_ANSWER


def _too_much() -> Iterator[tuple[str, str]]:
    yield "{" + " __typename" * (MAX_FIELDS + 1) + "}", f"The document has more than {MAX_FIELDS} fields."
    aliases = "{" + " ".join(f"a{i}: __typename" for i in range(MAX_ALIASES + 1)) + "}"
    yield aliases, f"The document has more than {MAX_ALIASES} aliases."
    fragments = "{ __typename }" + "".join(f" fragment F{i} on Query {{ __typename }}" for i in range(MAX_FRAGMENTS + 1))
    yield fragments, f"The document has more than {MAX_FRAGMENTS} fragments."
    directives = "{" + " __typename @include(if: true)" * (MAX_DIRECTIVES + 1) + "}"
    yield directives, f"The document has more than {MAX_DIRECTIVES} directives."
    one_field = "{ __typename" + " @include(if: true)" * (MAX_FIELD_DIRECTIVES + 1) + "}"
    yield one_field, f"One place of the document has more than {MAX_FIELD_DIRECTIVES} directives."
    yield "{ " + "x" * (MAX_NAME + 1) + " }", f"A name in the document is longer than {MAX_NAME} characters."
    yield _deep(MAX_DEPTH), f"The operation is nested deeper than {MAX_DEPTH} levels."
    runs = "".join(f" fragment R{i} on Run {{ retryOf {{ ...R{i + 1} }} }}" for i in range(MAX_DEPTH))
    through_fragments = f'query Deep {{ node(id: "x") {{ ...R0 }} }}{runs} fragment R{MAX_DEPTH} on Run {{ id }}'
    yield through_fragments, f"'Deep' is nested deeper than {MAX_DEPTH} levels."


@pytest.mark.parametrize(("document", "message"), list(_too_much()))
def test_more_than_the_limit_is_refused_by_its_name(document: str, message: str) -> None:
    [problem] = _problems(document)
    assert (problem.message, problem.extensions) == (message, {"code": "LIMIT_EXCEEDED"})


@pytest.mark.parametrize(
    "document",
    [
        "{" + "__typename(a: 1, b: 2) " * 480 + "}",
        HOSTILE["the same valid arguments"],
        HOSTILE["many fragments side by side"],
        HOSTILE["many operations with the same variables"],
    ],
)
def test_fields_that_share_a_name_are_compared_so_often_and_no_more(document: str) -> None:
    [problem] = _problems(document)
    message = "The document repeats its fields too often, or nests them too deeply, to be checked."
    assert (problem.message, problem.extensions) == (message, {"code": "LIMIT_EXCEEDED"})


def test_what_tools_and_people_send_is_far_from_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlapping_fields_can_be_merged, "MAX_COMPLEXITY_BUDGET", 0)
    for document in (get_introspection_query(), DASHBOARD):
        assert validate(schema._schema, parse(document)) == []


def test_more_tokens_than_the_limit_are_refused() -> None:
    [problem] = _problems("{" + " __typename" * MAX_TOKENS + "}")
    message = f"Document contains more than {MAX_TOKENS} tokens. Parsing aborted."
    assert (problem.message, problem.extensions) == (message, {"code": "LIMIT_EXCEEDED"})


def test_more_comments_than_the_limit_are_refused() -> None:
    [problem] = _problems("#\n" * (MAX_COMMENTS + 1) + "{ __typename }")
    message = f"Document contains more than {MAX_COMMENTS} comments. Parsing aborted."
    assert (problem.message, problem.extensions) == (message, {"code": "LIMIT_EXCEEDED"})
    assert _problems("#\n" * MAX_COMMENTS + "{ __typename }") == []


def test_what_a_document_says_of_itself_is_no_limit() -> None:
    [problem] = _problems('{ __typename(" Parsing aborted.") }')
    assert (problem.message, problem.extensions) == ("Syntax Error: Expected Name, found String ' Parsing aborted.'.", {})


@pytest.mark.parametrize(
    "document",
    [
        " ".join(f"query Q{i} {{ viewer {{ role }} }}" for i in range(MAX_FIELDS // 2)),
        "{" + "viewer { role tenant } " * 100 + "}",
        "{" + " ".join(f"a{i}: __typename" for i in range(MAX_ALIASES)) + "}",
        "{" + " __typename @include(if: true)" * MAX_DIRECTIVES + "}",
        _deep(MAX_DEPTH - 1),
        _chain(MAX_FRAGMENTS - 1, 1),
    ],
)
def test_as_much_as_the_limit_is_good(document: str) -> None:
    assert _problems(document) == []


def test_what_was_read_is_remembered_and_what_is_long_is_not() -> None:
    short, long = "{ viewer { tenant } }", "{ viewer { tenant } } #" + " " * 10_000
    assert prepared(schema._schema, short) is prepared(schema._schema, short)
    assert prepared(schema._schema, long) is not prepared(schema._schema, long)
