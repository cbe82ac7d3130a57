"""Serving GraphiQL: when a person asks for the endpoint, and its assets."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from graphql_api.graphiql.asset_files import assets
from graphql_api.graphiql.page import graphiql_page

_CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_PAGE_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}
_JSON_TYPES = ("application/graphql-response+json", "application/json")


def prefers_page(request: Request) -> bool:
    """Whether this is a browser that shows a page: a GET whose Accept names text/html and likes it better than JSON."""
    if request.method not in {"GET", "HEAD"}:
        return False
    likes = _qualities(request.headers.getlist("accept"))
    html = likes.get("text/html", 0.0)
    json = max(likes.get(kind, likes.get("application/*", likes.get("*/*", 0.0))) for kind in _JSON_TYPES)
    return html > json or (html == json > 0 and not any(kind in likes for kind in _JSON_TYPES))


def graphiql_response(request: Request) -> Response:
    """The page, for the endpoint that `request` came to."""
    return HTMLResponse(graphiql_page(endpoint=request.scope["path"].rstrip("/")), headers=_PAGE_HEADERS)


def asset_routes(endpoint: str) -> Mount:
    """The page's files, below `<endpoint>/assets/`, where the page looks for them. They need no key."""
    return Mount(f"{endpoint}/assets", routes=[Route("/{name}", _asset)], name="graphiql-assets")


async def _asset(request: Request) -> Response:
    asset = assets().get(request.path_params["name"])
    if asset is None:
        return PlainTextResponse("no such file\n", status_code=404, headers={"X-Content-Type-Options": "nosniff"})
    named = request.query_params.get("v") == asset.tag
    headers = {
        "ETag": f'"{asset.tag}"',
        # Under a URL that names its content, a file never changes.
        "Cache-Control": "public, max-age=31536000, immutable" if named else "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if headers["ETag"] in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


def _qualities(accept: list[str]) -> Mapping[str, float]:
    """The media ranges of Accept headers, each with how much it is liked, from 0 to 1. What cannot be read counts as 0."""
    found: dict[str, float] = {}
    for part in ",".join(accept).split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = min(1.0, max(0.0, float(value)))
                except ValueError:
                    quality = 0.0
        if kind:
            found[kind] = quality
    return found
