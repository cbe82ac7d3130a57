"""What watches the server asks: whether it lives, whether it can work, and how it is."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from domain.errors import DomainError
from graphql_api.this_machine import is_from_this_machine


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """`read` gives the page, of the type `media_type`.

    With `token` it is for whoever sends that as a bearer; without, for requests that plainly come from this machine, if
    `local` says that the server listens on loopback.
    """

    read: Callable[[], Awaitable[bytes]]
    media_type: str
    token: str | None = field(default=None, repr=False)
    local: bool = False

    def lets_in(self, request: Request) -> bool:
        if self.token is None:
            return self.local and is_from_this_machine(request)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode())


def probe_routes(ready: Callable[[], Awaitable[None]], metrics: MetricsPage | None) -> list[Route]:
    """`ready` returns when the server can work, else raises; an expected error's message is shown."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        try:
            await ready()
        except DomainError as error:
            return PlainTextResponse(f"{error.message}\n", status_code=503)
        except Exception:
            return PlainTextResponse("the database does not answer\n", status_code=503)
        return PlainTextResponse("ready\n")

    routes = [Route("/healthz", healthz), Route("/readyz", readyz)]
    if metrics is not None:
        routes.append(Route("/metrics", _page(metrics)))
    return routes


def _page(metrics: MetricsPage) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        if not metrics.lets_in(request):
            message = "Credentials are missing or not good: send 'Authorization: Bearer <token>'.\n"
            return PlainTextResponse(message, status_code=401, headers={"www-authenticate": "Bearer"})
        return Response(await metrics.read(), headers={"content-type": metrics.media_type, "cache-control": "no-store"})

    return page
