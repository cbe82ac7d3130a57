"""Server-sent events, in graphql-sse's mode of distinct connections: a request, and the stream that answers it.

https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md — the events are `next` and `complete`. A stream that ends without
`complete` was cut: the client asks again, and goes on from its last cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from strawberry.http.streaming import SSETransport
from strawberry.types.graphql import OperationType

from graphql_api.streams.open_streams import OpenConnection

EVENTS_TYPE = "text/event-stream"
_ANSWERS = ("application/json", "application/graphql-response+json")


def accepts_events(request: HTTPConnection) -> bool:
    """Whether the client wants a stream: it accepts one, and no plain answer. Some name the stream with every query, just in case."""
    return Events().accepts(request.headers.get("accept", ""))


class Events(SSETransport):
    """Strawberry's, for subscriptions alone."""

    def accepts(self, accept: str) -> bool:
        kinds = {part.split(";", 1)[0].strip().lower() for part in accept.split(",")}
        return EVENTS_TYPE in kinds and kinds.isdisjoint(_ANSWERS)

    def allowed_operation_types(self, allowed_operation_types: set[OperationType]) -> Iterable[OperationType]:
        return (OperationType.SUBSCRIPTION,)


class EventStream(Response):
    """Ends with its client or its connection, and does not wait for a client that takes nothing."""

    def __init__(self, chunks: AsyncGenerator[str, None], connection: OpenConnection, *, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._chunks = chunks
        self._connection = connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        over = [asyncio.create_task(self._connection.ended()), asyncio.create_task(_gone(receive))]
        try:
            async with aclosing(self._chunks) as chunks:
                while (chunk := await _next(chunks, unless=over)) is not None:
                    async with asyncio.timeout(self._connection.limits.send_seconds):
                        await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
        except TimeoutError:
            # Nothing more can be said to it: the server cuts a response that is left so.
            return
        finally:
            for task in over:
                task.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _next(chunks: AsyncGenerator[str, None], *, unless: Sequence[asyncio.Task[Any]]) -> str | None:
    """The next chunk; None when there is none, or when one of the other tasks is done first."""
    coming = asyncio.ensure_future(anext(chunks, None))
    try:
        await asyncio.wait([coming, *unless], return_when=asyncio.FIRST_COMPLETED)
        return None if any(task.done() for task in unless) else coming.result()
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.wait([coming])
