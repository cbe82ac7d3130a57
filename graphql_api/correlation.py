"""What ties a request to its log lines and its trace.

Each request has an id: the caller's, when it is well formed, or a new one. Log lines carry it, and the answer tells it. The
caller's W3C `traceparent` is continued.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.log_fields import binding
from domain.ports.telemetry import Telemetry

REQUEST_ID = b"x-request-id"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_TRACE_HEADERS = (b"traceparent", b"tracestate")
_ANSWERS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


class Correlation:
    """ASGI middleware, for HTTP and WebSockets."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _given(scope["headers"]) or uuid4().hex

        async def told(message: Message) -> None:
            if message["type"] in _ANSWERS:
                message = {**message, "headers": [*message.get("headers", ()), (REQUEST_ID, request_id.encode())]}
            await send(message)

        trace = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _TRACE_HEADERS}
        with binding(request_id=request_id), self._telemetry.continuing(trace):
            await self._app(scope, receive, told)


def _given(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The id that the caller gave; of two, none."""
    values = [value for name, value in headers if name == REQUEST_ID]
    return values[0].decode() if len(values) == 1 and _WELL_FORMED.fullmatch(values[0]) else None
