"""An ASGI application served over HTTP, for as long as a block runs."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from autoloader.application import Application
from graphql_api.probes import MetricsPage
from graphql_api.streams.web_sockets import MAX_MESSAGE_BYTES
from integrations.telemetry.metrics import CONTENT_TYPE


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command line's business."""
        yield


@dataclass(frozen=True, slots=True)
class Listening:
    """An open socket, which nobody answers yet."""

    socket: socket.socket

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if self.socket.family is socket.AF_INET6 else f"http://{host}:{port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.socket.getsockname()[0]).is_loopback


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[Listening]:
    """Raises OSError when the port is taken, or the host is none of this machine's."""
    [family, *_], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with socket.create_server((host, port), family=family) as opened:
        yield Listening(opened)


def metrics_of(application: Application, on: Listening) -> MetricsPage:
    token = application.settings.metrics_token
    return MetricsPage(application.metrics_page, CONTENT_TYPE, token.get_secret_value() if token else None, on.is_local)


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, on: Listening) -> AsyncIterator[None]:
    """At the block's end, what is being answered is answered."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        # Compression would keep a window of each connection in memory.
        ws_per_message_deflate=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[on.socket]), name="http server")
    try:
        yield
    finally:
        server.should_exit = True
        await task
