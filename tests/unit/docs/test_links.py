"""What the documents point at is there: files, headings, commands, and operations of the schema."""

from __future__ import annotations

import itertools
import json
import re
from typing import cast

import click
import pytest
import typer.main
from graphql import FragmentDefinitionNode, GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate
from graphql.execution.values import get_variable_values

from autoloader.cli import app
from tests.unit.docs.markdown import ROOT, Document, document, names

every_document = pytest.mark.parametrize("name", names())


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return build_schema((ROOT / "schema.graphql").read_text())


def test_the_documents_that_newcomers_need_are_there() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/operations.md"} <= set(names())


@every_document
def test_links_lead_to_files_and_headings(name: str) -> None:
    broken = [link for link in document(name).links if not re.match(r"https?://", link) and not _leads_somewhere(document(name), link)]
    assert broken == []


def _leads_somewhere(source: Document, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (source.path.parent / path).resolve() if path else source.path
    if not target.is_relative_to(ROOT) or not target.exists():
        return False
    return not anchor or anchor in document(target.relative_to(ROOT).as_posix()).anchors


@every_document
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for code in document(name).code for target in re.findall(r"^(?:\S*/)?make ([a-z][a-z-]*)", code, re.MULTILINE)}
    assert named - targets == set()


@every_document
def test_commands_exist_and_take_the_options(name: str) -> None:
    lines = [line for code in document(name).code for line in re.findall(r"^(?:\S*/)?autoloader((?: +[a-z-]+)+)", code, re.MULTILINE)]
    assert [problem for line in lines if (problem := _problem_of(line.split()))] == []


def _problem_of(words: list[str]) -> str | None:
    command = cast(click.Command, typer.main.get_command(app))
    for word in words:
        if word.startswith("-"):
            if word not in {"--help", *(option for parameter in command.params for option in parameter.opts)}:
                return f"{command.name} has no option {word}"
        else:
            found = getattr(command, "commands", {}).get(word)
            if found is None:
                return f"there is no command {' '.join(words)}"
            command = found
    return None


@every_document
def test_graphql_documents_are_valid(name: str, schema: GraphQLSchema) -> None:
    for fence in document(name).fences:
        if fence.language == "graphql":
            assert validate(schema, parse(fence.text)) == []


@every_document
def test_variables_beside_a_graphql_document_fit_it(name: str, schema: GraphQLSchema) -> None:
    for fence, following in itertools.pairwise(document(name).fences):
        if (fence.language, following.language) == ("graphql", "json"):
            [operation] = [node for node in parse(fence.text).definitions if not isinstance(node, FragmentDefinitionNode)]
            assert isinstance(operation, OperationDefinitionNode)
            values = get_variable_values(schema, operation.variable_definitions or (), json.loads(following.text))
            assert not isinstance(values, list), values


def test_what_the_documents_call_missing_is_missing(schema: GraphQLSchema) -> None:
    """Whoever adds an operation takes it off the README's list, and out of the sentences that say '... is not there yet'."""
    called_missing = set(re.findall(r"`(\w+)`", document("README.md").section("What is not there yet")))
    for name in names():
        called_missing |= set(re.findall(r"`(\w+)` is not there yet", document(name).prose))
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    there = {field for root in roots if root is not None for field in root.fields}
    assert "ingestions" in there
    assert called_missing & there == set(), "these are there now: say so in the documents"
