"""GraphiQL's page: complete from this package, and the same for everybody."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from graphql import OperationDefinitionNode, build_schema, parse, validate
from graphql.execution.values import get_variable_values

from graphql_api.graphiql.asset_files import assets
from graphql_api.graphiql.page import SCRIPTS, STYLES, graphiql_page, welcome_tabs
from graphql_api.schema import sdl

ASSETS = Path(__file__).parents[3] / "graphql_api" / "graphiql" / "assets"


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the text inside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in {"script", "style"} and data.strip():
            self.inline.append(data)

    def root(self) -> dict[str, str | None]:
        (root,) = [attributes for _, attributes in self.found if attributes.get("id") == "graphiql"]
        return root


def page(endpoint: str = "/graphql") -> Elements:
    return Elements(graphiql_page(endpoint=endpoint))


def test_everything_is_loaded_from_below_the_endpoint() -> None:
    loads = [attributes.get("src") or attributes.get("href") for _, attributes in page(endpoint="/api/graphql").found]
    wanted = [f"/api/graphql/assets/{name}?v={assets()[name].tag}" for name in (*STYLES, *SCRIPTS)]
    assert [load for load in loads if load] == ["data:,", *wanted]


def test_the_page_has_no_code_of_its_own() -> None:
    elements = page()
    assert elements.inline == []
    assert [name for _, attributes in elements.found for name in attributes if name.startswith("on") or name == "style"] == []


@pytest.mark.parametrize("name", ["bootstrap.js", "page.css"])
def test_our_own_assets_name_no_other_server(name: str) -> None:
    content = assets()[name].content.decode()
    assert re.findall(r"https?:|//[a-z]+\.|@import|url\(", content) == []


def test_the_vendored_styles_load_nothing_from_elsewhere() -> None:
    loads = re.findall(r"url\(\s*['\"]?([^)]{0,5})", assets()["graphiql.min.css"].content.decode())
    assert set(loads) == {"data:"}
    assert "@import" not in assets()["graphiql.min.css"].content.decode()


def test_no_endpoint_breaks_out_of_its_attribute() -> None:
    endpoint = '/a"><script>alert(1)</script>'
    assert page(endpoint=endpoint).root()["data-endpoint"] == endpoint
    assert [tag for tag, _ in page(endpoint=endpoint).found] == [tag for tag, _ in page().found]


def test_a_newcomer_finds_documents_that_teach() -> None:
    tabs = json.loads(page().root()["data-tabs"] or "")
    assert tabs == welcome_tabs()
    operations = [parse(tab["query"]).definitions for tab in tabs]
    names = [definition.name.value for (definition,) in operations if isinstance(definition, OperationDefinitionNode) and definition.name]
    assert names == ["Ingestions", "CreateIngestion", "RunIngestion", "Activity"]
    assert all(tab["query"].startswith("# ") for tab in tabs)
    # GraphiQL does not read the first tab's variables.
    assert tabs[0]["variables"] is None
    assert set(json.loads(tabs[1]["variables"])["input"]) >= {"name", "source", "format", "destination"}


def test_the_documents_and_their_variables_are_right_by_the_schema() -> None:
    schema = build_schema(sdl())
    for tab in welcome_tabs():
        assert tab["query"] is not None
        document = parse(tab["query"])
        assert validate(schema, document) == []
        (operation,) = document.definitions
        assert isinstance(operation, OperationDefinitionNode)
        variables = json.loads(tab["variables"] or "{}")
        coerced = get_variable_values(schema, operation.variable_definitions or (), variables)
        assert not isinstance(coerced, list), coerced


def test_vendored_files_are_what_the_record_says() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (ASSETS / "VENDORED.md").read_text().splitlines() if "|" in line]
    recorded = {name: (licence, digest) for name, _package, _version, _member, licence, digest in rows[2:]}
    there = {path.name for path in ASSETS.iterdir()} - {"bootstrap.js", "page.css", "VENDORED.md", ".gitattributes"}
    assert set(recorded) == there
    assert {name: digest for name, (_, digest) in recorded.items()} == {
        name: hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() for name in there
    }
    assert {licence for licence, _ in recorded.values()} == {"MIT"}
    assert all((ASSETS / f"{package}.LICENSE").read_text().startswith("MIT License") for package in {row[1] for row in rows[2:]})
