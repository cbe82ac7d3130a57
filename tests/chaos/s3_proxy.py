"""An HTTP proxy in front of an S3 server that does, to chosen requests, what stores and networks do on bad days.

Clients are told its address as the store's, so they sign for it; it passes every byte on, `Host` included, and the server checks the
signature against that. What is not chosen passes through.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

_HEAD_LIMIT = 1 << 20
_CHUNK = 65_536


class Badness(StrEnum):
    ERROR = "500"
    SLOW_DOWN = "503 SlowDown"
    HANG = "no answer"
    RESET = "connection reset"
    TRUNCATED = "body cut short"
    ANSWER_LOST = "done, and the answer lost"


@dataclass(frozen=True)
class Fault:
    """Befalls requests whose line, such as `GET /bucket/key?list-type=2 HTTP/1.1`, the pattern is found in: after the first `spared` of
    them `times` more, all of them when that is None."""

    badness: Badness
    pattern: str
    spared: int = 0
    times: int | None = None


@dataclass(eq=False)
class S3Proxy:
    upstream: tuple[str, int]
    port: int = 0
    plan: list[Fault] = field(default_factory=list)
    has_befallen: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a fault has befallen a request."""
    _seen: dict[Fault, int] = field(default_factory=dict)
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        server: asyncio.StreamWriter | None = None
        try:
            answers, server = await asyncio.open_connection(*self.upstream, limit=_HEAD_LIMIT)
            while await self._exchange(reader, writer, answers, server):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            for stream in (writer, server):
                if stream is not None:
                    stream.transport.abort()

    async def close(self) -> None:
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        badness = self._chosen(head)
        if badness is Badness.RESET:
            return False
        if badness is Badness.HANG:
            await asyncio.sleep(3_600)
        if badness in (Badness.ERROR, Badness.SLOW_DOWN):
            await _refuse(head, reader, writer, badness)
            return False
        server.write(head)
        if _header(head, b"expect"):
            # The server says `100 Continue`, and the client sends the body after that.
            writer.write(await answers.readuntil(b"\r\n\r\n"))
        await _pass_body(head, reader, server)
        answer = await answers.readuntil(b"\r\n\r\n")
        if badness is Badness.ANSWER_LOST:
            return False
        writer.write(answer)
        bodiless = head.startswith(b"HEAD ") or answer.split(b" ", 2)[1] in (b"204", b"304")
        if badness is Badness.TRUNCATED:
            if not bodiless:
                await _pass_half(answer, answers, writer)
            with suppress(OSError):
                await writer.drain()
            # An orderly end in the middle of the body.
            writer.close()
            return False
        if not bodiless:
            await _pass_body(answer, answers, writer)
        await writer.drain()
        return True

    def _chosen(self, head: bytes) -> Badness | None:
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        for fault in self.plan:
            if re.search(fault.pattern, line):
                seen = self._seen[fault] = self._seen.get(fault, 0) + 1
                if seen > fault.spared and (fault.times is None or seen <= fault.spared + fault.times):
                    self.has_befallen.set()
                    return fault.badness
        return None


def _header(head: bytes, name: bytes) -> bytes | None:
    found = re.search(rb"\r\n" + name + rb":[ \t]*([^\r\n]*)", head, re.IGNORECASE)
    return found[1] if found else None


async def _pass_body(head: bytes, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    if _header(head, b"transfer-encoding"):
        while True:
            size = await source.readuntil(b"\r\n")
            target.write(size + await source.readexactly(int(size.split(b";")[0], 16) + 2))
            await target.drain()
            if int(size.split(b";")[0], 16) == 0:
                return
    left = int(_header(head, b"content-length") or 0)
    while left:
        data = await source.read(min(left, _CHUNK))
        if not data:
            raise ConnectionError("the body ended early")
        target.write(data)
        await target.drain()
        left -= len(data)


async def _pass_half(head: bytes, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Half of a body, of which the head has announced all."""
    target.write(await source.read(max(1, int(_header(head, b"content-length") or 2) // 2)))


async def _refuse(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, badness: Badness) -> None:
    slow = badness is Badness.SLOW_DOWN
    status, code = ("503 Service Unavailable", "SlowDown") if slow else ("500 Internal Server Error", "InternalError")
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()
    if head.startswith(b"HEAD "):
        body = b""
    answer = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(answer.encode() + body)
    await writer.drain()
    writer.close()


@asynccontextmanager
async def s3_proxy(endpoint: str) -> AsyncIterator[S3Proxy]:
    host, _, port = endpoint.removeprefix("http://").partition(":")
    proxy = S3Proxy((host, int(port)))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=_HEAD_LIMIT)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
