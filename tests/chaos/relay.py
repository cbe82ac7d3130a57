"""A TCP relay in front of PostgreSQL: its address stays when the server's changes, and connections can be cut at a chosen moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_CHUNK = 65_536
_OF_THE_CATALOG = b"search_path=iceberg"


@dataclass(eq=False)
class _Link:
    """One connection through the relay. `cut_at_answer`: what the server says next does not reach the client any more."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    of_the_catalog: bool = False
    cut_at_answer: bool = False

    def cut(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


@dataclass(eq=False)
class Relay:
    port: int = 0
    upstream: int | None = None
    """The server's port; None: nobody is there."""
    _links: set[_Link] = field(default_factory=set)
    _losing: bool | None = None

    def drop(self) -> None:
        """Cut every connection."""
        for link in list(self._links):
            link.cut()

    def lose_answer_to_commit(self, *, of_the_catalog: bool) -> None:
        """The next COMMIT, of PyIceberg's catalog or else of ours, is done; who sent it is cut off before the answer."""
        self._losing = of_the_catalog

    @property
    def has_lost_it(self) -> bool:
        return self._losing is None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.upstream is not None:
                with suppress(OSError):
                    await self._join(reader, writer, *await asyncio.open_connection("127.0.0.1", self.upstream))
        finally:
            # Whatever has ended it, being cancelled too: a client that nobody answers would wait for ever.
            writer.transport.abort()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, from_server: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        link = _Link(writer, to_server)
        self._links.add(link)
        try:
            pumps = [asyncio.ensure_future(self._up(link, reader)), asyncio.ensure_future(self._down(link, from_server))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            link.cut()
            self._links.discard(link)

    async def _up(self, link: _Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                link.of_the_catalog |= _OF_THE_CATALOG in data
                # A simple query: its letter, its length, its text.
                if data.startswith(b"Q") and b"COMMIT" in data and self._losing == link.of_the_catalog:
                    self._losing = None
                    link.cut_at_answer = True
                link.server.write(data)
                await link.server.drain()

    async def _down(self, link: _Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if link.cut_at_answer:
                    return
                link.client.write(data)
                await link.client.drain()


@asynccontextmanager
async def relay() -> AsyncIterator[Relay]:
    made = Relay()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.drop()
