"""The ASGI application: GraphQL, GraphiQL and the probes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from graphql_api.context import Services
from graphql_api.correlation import Correlation
from graphql_api.graphiql.routes import asset_routes, graphiql_response, prefers_page
from graphql_api.http import GraphQLOverHTTP
from graphql_api.probes import MetricsPage, probe_routes
from graphql_api.schema import schema

ENDPOINT = "/graphql"


class _Endpoint:
    """People with a browser get GraphiQL, programs get GraphQL, from one URL."""

    def __init__(self, graphql: GraphQLOverHTTP, ide: bool) -> None:
        self._graphql = graphql
        self._ide = ide

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if not prefers_page(request) or not {"query", "documentId"}.isdisjoint(request.query_params):
            await self._graphql(scope, receive, send)
        elif self._ide:
            await graphiql_response(request)(scope, receive, send)
        else:
            await PlainTextResponse("GraphiQL is not served here\n", status_code=404)(scope, receive, send)


def create_app(
    services: Services,
    *,
    ready: Callable[[], Awaitable[None]],
    ide: bool = True,
    metrics: MetricsPage | None = None,
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
) -> Starlette:
    """`ready` returns when the server can work, else raises; `ide` says whether GraphiQL is served.

    Without `metrics` there is no such page.
    """

    async def home(_: Request) -> Response:
        return RedirectResponse(ENDPOINT)

    graphql = GraphQLOverHTTP(schema, services)
    return Starlette(
        routes=[
            Route("/", home),
            Route(ENDPOINT, _Endpoint(graphql, ide)),
            WebSocketRoute(ENDPOINT, graphql),
            *([asset_routes(ENDPOINT)] if ide else []),
            *probe_routes(ready, metrics),
        ],
        middleware=[Middleware(Correlation, telemetry=services.telemetry)],
        lifespan=lifespan,
    )
