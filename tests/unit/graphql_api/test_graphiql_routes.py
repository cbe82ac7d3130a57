"""Who gets GraphiQL's page, and how its assets are served."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from graphql_api.graphiql.asset_files import assets
from graphql_api.graphiql.routes import asset_routes, graphiql_response, prefers_page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


async def _endpoint(request: Request) -> Response:
    return graphiql_response(request) if prefers_page(request) else JSONResponse({"data": None})


APP = Starlette(routes=[Route("/graphql", _endpoint, methods=["GET", "POST"]), asset_routes("/graphql")])


async def ask(path: str = "/graphql", *, method: str = "GET", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=APP), base_url="http://127.0.0.1:8000") as http:
        return await http.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("text/html, */*", True),
        ("TEXT/HTML;Q=1", True),
        ("*/*", False),
        ("application/json", False),
        ("application/graphql-response+json, application/json;q=0.9", False),
        ("application/json, text/html;q=0.9", False),
        ("application/json, text/html", False),
        ("application/*, text/html;q=0.5", False),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
        ("text/html;q=nan", False),
        ("", False),
        (",;,;q=1", False),
    ],
)
async def test_the_page_is_for_who_likes_it_better_than_json(accept: str, page: bool) -> None:
    answer = await ask(accept=accept)
    assert answer.headers["content-type"].startswith("text/html" if page else "application/json")


async def test_a_post_is_never_answered_with_the_page() -> None:
    assert (await ask(method="POST", accept=BROWSER)).json() == {"data": None}


async def test_the_page_may_load_only_from_its_own_server_and_is_not_kept() -> None:
    headers = (await ask(accept=BROWSER)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["vary"] == "Accept"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("graphiql.min.js", "text/javascript"),
        ("bootstrap.js", "text/javascript"),
        ("graphiql.min.css", "text/css"),
        ("react.LICENSE", "text/plain"),
    ],
)
async def test_assets_are_served_as_what_they_are(name: str, media_type: str) -> None:
    answer = await ask(f"/graphql/assets/{name}")
    assert answer.status_code == 200
    assert answer.content == assets()[name].content
    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_asset_is_kept_under_the_url_that_names_its_content_only() -> None:
    tag = assets()["page.css"].tag
    answers = [await ask(f"/graphql/assets/page.css{query}") for query in (f"?v={tag}", "?v=old", "")]
    assert [answer.headers["cache-control"] for answer in answers] == ["public, max-age=31536000, immutable", "no-cache", "no-cache"]
    again = await ask("/graphql/assets/page.css", if_none_match=f'"other", W/"{tag}"')
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["absent.js", "..%2Fpage.py", "%2E%2E/page.py", "__init__.py", ""])
async def test_nothing_but_the_assets_is_served(path: str) -> None:
    answer = await ask(f"/graphql/assets/{path}")
    assert answer.status_code == 404
