"""A PostgreSQL of the matrix's own, behind a relay, that is killed and comes back."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Lock

from autoloader.embedded.cluster import ClusterFolder
from autoloader.embedded.postgres import EmbeddedPostgres
from persistence.migrations import upgrade
from tests.chaos.relay import Relay, relay
from tests.fixtures.postgres import ServerFacts, administration

_MEMORY = Path("/dev/shm")
_TEMPLATE = "template_chaos"
_MIGRATING = Lock()


class OwnPostgres:
    def __init__(self, folder: Path, through: Relay) -> None:
        self.relay = through
        self._folder = folder
        # Many worlds at once, each with two applications or three.
        self._embedded = EmbeddedPostgres(folder, max_connections=400)
        self._facts: ServerFacts

    async def start(self) -> None:
        """Clients that come through the relay reach it from here on, whatever its port is this time."""
        facts = await asyncio.to_thread(self._embedded.start)
        self._facts = ServerFacts(facts.url(driver="postgresql"), _TEMPLATE)
        self.relay.upstream = facts.port

    async def kill(self, number: int) -> None:
        """Send the postmaster a signal, SIGKILL or SIGQUIT (an immediate shutdown), and wait until all of it has gone."""
        self.relay.upstream = None
        os.kill(int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0]), number)
        await asyncio.to_thread(self._embedded.stop)

    def make_template(self) -> None:
        with administration(self._facts) as administer:
            administer.execute(f"CREATE DATABASE {_TEMPLATE}")
        # Alembic's contexts are the process's.
        with _MIGRATING:
            upgrade(self._facts.url_of(_TEMPLATE))

    def new_database(self) -> str:
        """The URL of a migrated database of its own, through the relay."""
        name = f"chaos_{secrets.token_hex(6)}"
        with administration(self._facts) as administer:
            administer.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY")
        return self._facts.url_of(name).replace(f":{self._facts.url.rpartition(':')[2].partition('/')[0]}/", f":{self.relay.port}/")

    async def stop(self) -> None:
        await asyncio.to_thread(self._embedded.stop)


@asynccontextmanager
async def own_postgres() -> AsyncIterator[OwnPostgres]:
    """Durable, so that what it has confirmed is there after a SIGKILL; in memory where that can be."""
    home = Path(tempfile.mkdtemp(prefix="autoloader-chaos-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    try:
        async with relay() as through:
            server = OwnPostgres(home, through)
            try:
                await server.start()
                await asyncio.to_thread(server.make_template)
                yield server
            finally:
                await server.stop()
    finally:
        ClusterFolder(home).remove()
