"""What operations cost: exactly, and in time that grows with the document alone."""

from __future__ import annotations

from typing import Any

import pytest
from graphql import get_introspection_query, get_operation_ast, parse, validate

from graphql_api.limits.limits import Limits
from graphql_api.limits.operation_cost import CEILING, OperationCost
from graphql_api.schema import schema
from tests.integration.graphql_api.test_reads import DASHBOARD

COUNTED, WRITES, STORE, EVERYTHING = 10, 50, 500, 5_000


def cost(document: str, *, operation: str | None = None, **variables: Any) -> OperationCost:
    parsed = parse(document)
    assert validate(schema._schema, parsed) == []
    chosen = get_operation_ast(parsed, operation)
    assert chosen is not None
    return OperationCost(schema._schema, parsed, chosen, variables)


def total(objects: int, leaves: int) -> int:
    """A leaf is a tenth of an object, and what is less than one object in the end is nothing."""
    return objects + leaves // 10


@pytest.mark.parametrize(
    ("document", "objects", "leaves"),
    [
        ("{ __typename }", 0, 1),
        ("{ viewer { tenant role } }", 1, 2),
        ("{ viewer { tenant } again: viewer { tenant } }", 2, 2),
        ('{ ingestion(id: "x") { id source { path } lastRun { id } } }', 3, 3),
        ("{ ingestions { totalCount } }", 1 + COUNTED, 0),
        # A page of 20 unless told; edges and the nodes in them are different objects.
        ("{ ingestions { nodes { id } } }", 1 + 20, 20),
        ("{ ingestions { edges { cursor node { id } } } }", 1 + 20 * 2, 20 * 2),
        ("{ ingestions { pageInfo { hasNextPage } } }", 2, 1),
        ("{ ingestions(first: 3) { nodes { id lastRun { id } } } }", 1 + 3 * 2, 3 * 2),
        ("{ ingestions(last: 3) { nodes { id } } }", 1 + 3, 3),
        ("{ ingestions(first: 0) { nodes { lastRun { id } } } }", 1, 0),
        (
            "{ ingestions(first: 3) { nodes { runs(first: 4) { nodes { files(first: 5) { nodes { id path } } } } } } }",
            1 + 3 * (2 + 4 * (2 + 5)),
            3 * 4 * 5 * 2,
        ),
        # What will be refused for its size makes nothing cheaper.
        ("{ ingestions(first: 100000) { nodes { id } } }", 1 + 100, 100),
        ("{ ingestions(first: -7) { nodes { id } } }", 1, 0),
        ('{ explainFile(ingestionId: "x", path: "y") { ... on FileExplanation { state } } }', STORE, 1),
        ('{ auditIngestion(id: "x") { ... on Completeness { differences { path } } } }', EVERYTHING + 1, 1),
        ("{ system { components { name } } }", STORE + 1, 1),
        ('mutation { pauseIngestion(id: "x") { ... on Ingestion { id lastRun { id } } ... on Error { message } } }', WRITES + 1, 3),
        (
            "{ ...A } fragment A on Query { viewer { tenant } ...B } fragment B on Query { ingestions(first: 2) { nodes { id } } }",
            1 + 1 + 2,
            1 + 2,
        ),
        ("{ ingestions(first: 5) { ...P } } fragment P on IngestionConnection { nodes { id } }", 1 + 5, 5),
        ("{ ingestions(first: 5) { ... { nodes { id } } } }", 1 + 5, 5),
        ('{ node(id: "x") { ... on Run { retryOf { id } } ... on Ingestion { lastRun { id } } } }', 1 + 2, 2),
        ("{ viewer @skip(if: true) { tenant } }", 0, 0),
        ("{ viewer @include(if: false) { tenant } }", 0, 0),
        ("{ viewer @include(if: true) @skip(if: false) { tenant } }", 1, 1),
    ],
)
def test_the_cost_of_a_document(document: str, objects: int, leaves: int) -> None:
    assert cost(document).total == total(objects, leaves)


def test_leaves_are_not_free() -> None:
    """Ten thousand objects with a hundred leaves each keep a processor busy for seconds."""
    leaves = " ".join(f"a{number}: status" for number in range(100))
    document = f"{{ ingestions(first: 100) {{ nodes {{ runs(first: 100) {{ nodes {{ {leaves} }} }} }} }} }}"
    assert cost(document).total > Limits().operation_cost


def test_variables_count() -> None:
    document = "query ($n: Int = 7, $yes: Boolean!) { ingestions(first: $n) { nodes { id lastRun @include(if: $yes) { id } } } }"
    assert cost(document, yes=False).total == total(1 + 7, 7)
    assert cost(document, yes=True, n=3).total == total(1 + 3 * 2, 3 * 2)
    # A null is the default of the field, a text no number: it will be refused.
    assert cost(document, yes=False, n=None).total == total(1 + 20, 20)
    assert cost(document, yes=False, n="9").total == total(1 + 20, 20)


@pytest.mark.parametrize("number", [100, 100.0])
def test_a_number_costs_what_it_is_however_it_is_written(number: float) -> None:
    """JSON's `100.0` is good for an Int: they must make nothing cheaper."""
    assert cost("query ($n: Int) { ingestions(first: $n) { nodes { id } } }", n=number).total == total(1 + 100, 100)


def test_one_of_several_operations() -> None:
    document = "query A { viewer { tenant } } query B { ingestions(first: 9) { nodes { id } } }"
    assert [cost(document, operation=name).total for name in "AB"] == [total(1, 1), total(10, 9)]


def test_fragments_that_stand_for_much_are_counted_in_no_time() -> None:
    """Forty fragments, each of which spreads the next one ten times: 10**39 fields, more than can be told."""
    fragments = "".join(f" fragment F{i} on Query {{ {f'...F{i + 1} ' * 10} }}" for i in range(39))
    found = cost("{ ...F0 }" + fragments + " fragment F39 on Query { viewer { tenant } }")
    assert found.total == CEILING


@pytest.mark.parametrize("options", [{}, {"specified_by_url": True, "directive_is_repeatable": True, "input_value_deprecation": True}])
def test_what_tools_ask_about_the_schema_is_well_within_the_limit(options: dict[str, bool]) -> None:
    found = cost(get_introspection_query(**options))
    assert found.introspects
    assert 10_000 < found.total < Limits().operation_cost / 2


def test_introspection_that_multiplies_itself_costs_what_it_gives() -> None:
    names = "".join(f"a{i}: name " for i in range(10))
    times = " ".join(f"f{i}: fields {{ type {{ g{i}: fields {{ type {{ {names} }} }} }} }}" for i in range(10))
    assert cost(f"{{ __schema {{ types {{ {times} }} }} }}").total > 20_000


def test_questions_about_the_schema_are_told() -> None:
    assert not cost("{ viewer { tenant __typename } }").introspects
    assert cost("{ ...A } fragment A on Query { __schema { types { name } } }").introspects
    assert cost('{ __type(name: "Run") { name } }').introspects


def test_a_dashboard_of_the_longest_page_is_within_the_limit() -> None:
    assert cost(DASHBOARD, first=100).total <= Limits().operation_cost
