"""A PostgreSQL of our own: started when we start, reachable from this machine only, gone when we are gone."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType

from autoloader.embedded.account import Account
from autoloader.embedded.binaries import Binaries, find_binaries
from autoloader.embedded.cluster import DATABASE, SUPERUSER, ClusterFolder, account_for, clean_environment, open_cluster, server_settings
from autoloader.embedded.connection import ConnectionFacts
from autoloader.embedded.errors import EmbeddedPostgresError
from autoloader.embedded.ownership import take_ownership
from autoloader.embedded.processes import end_postgres_in
from autoloader.embedded.supervised import Supervised

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.005
_PORT_ATTEMPTS = 5
_LOG_LIMIT_BYTES = 4_000_000


class EmbeddedPostgres:
    """The cluster in `directory`, as a context manager, for `with` or `async with`; it yields `ConnectionFacts`.

    - `durable=False` trades safety in a power cut for speed; for tests.
    - `ephemeral=True` removes the directory when the server has stopped, also when we were killed; for tests.
    - `run_as` is the user that postgres runs as when we are root, which it refuses; a cluster that is there runs as its owner.
    - `max_connections` bounds the server's sessions.

    Everything lies in `directory`: `data` (see `ClusterFolder`), `password` (mode 0600), `postgres.log`, `owner.lock`.
    The user of the connection owns the cluster: it is meant for migrations, and for us.
    """

    def __init__(
        self, directory: Path, *, durable: bool = True, ephemeral: bool = False, run_as: str = "nobody", max_connections: int = 100
    ) -> None:
        self._folder = ClusterFolder(directory.absolute())
        self._durable = durable
        self._ephemeral = ephemeral
        self._run_as = run_as
        self._max_connections = max_connections
        self._server = Supervised()

    def start(self) -> ConnectionFacts:
        """Start the server and wait until it takes connections. Blocking: about a second the first time, 0.1 s later.

        What a killed owner has left is stopped first. Raises `EmbeddedPostgresInUseError` when another process owns the
        cluster, and `EmbeddedPostgresError` for all else.
        """
        if sys.platform != "linux":
            raise EmbeddedPostgresError("the embedded PostgreSQL needs Linux: set AUTOLOADER_DATABASE_URL to a server of yours")
        if self._server.is_started:
            raise EmbeddedPostgresError(f"the embedded PostgreSQL in {self._folder.path} is started already")
        self._folder.prepare()
        lock = take_ownership(self._folder.lock)
        try:
            return self._start(lock)
        except BaseException:
            self.stop()
            if self._ephemeral:
                self._folder.remove()
            raise
        finally:
            os.close(lock)

    def _start(self, lock: int) -> ConnectionFacts:
        account = account_for(self._folder, self._run_as)
        binaries = find_binaries(account)
        password = open_cluster(self._folder, account, binaries, durable=self._durable)
        self._clear_leftovers()
        port = self._launch(lock, account, binaries)
        return _facts(port, password)

    def found(self) -> ConnectionFacts:
        """The server that another process has up. Raises `EmbeddedPostgresError`."""
        return _facts(self._folder.read_port(), self._folder.read_password())

    def stop(self) -> None:
        """Stop the server, sessions and all, and wait until it has gone. Blocking. Does nothing when it is not started."""
        if not self._server.stop(_STOP_SECONDS):
            end_postgres_in(self._folder.data)

    def __enter__(self) -> ConnectionFacts:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> ConnectionFacts:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on: let it end, then undo it.
            await asyncio.wait([starting])
            if starting.exception() is None:
                await asyncio.to_thread(self.stop)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.to_thread(self.stop)

    def _clear_leftovers(self) -> None:
        """We own the lock, so whatever still runs on this data has lost its owner, and its pid file is stale."""
        if not end_postgres_in(self._folder.data):
            raise EmbeddedPostgresError(f"an earlier PostgreSQL still runs in {self._folder.data.resolve()} and cannot be ended")
        (self._folder.data / "postmaster.pid").unlink(missing_ok=True)

    def _launch(self, lock: int, account: Account, binaries: Binaries) -> int:
        for attempt in range(_PORT_ATTEMPTS):
            port = _free_port()
            logged = self._folder.log_size()
            self._supervise(lock, account, binaries, port)
            if self._wait_until_ready():
                return port
            tail = self._folder.log_tail(after=logged)
            self.stop()
            # Another process may have taken the port in between.
            if attempt + 1 == _PORT_ATTEMPTS or not any("could not bind" in line for line in tail):
                break
        raise EmbeddedPostgresError(f"PostgreSQL {binaries.version} did not start in {self._folder.path}; its log ends:", tail)

    def _supervise(self, lock: int, account: Account, binaries: Binaries, port: int) -> None:
        settings = server_settings(port, self._max_connections, durable=self._durable)
        data = str(self._folder.data.resolve())
        self._server.start(
            [binaries.postgres, "-D", data, *(f"--{name}={value}" for name, value in settings.items())],
            clean_environment(),
            log=self._folder.log,
            log_limit_bytes=_LOG_LIMIT_BYTES,
            run_as=(account.uid, account.gid) if account.switch else None,
            inherited=(lock,),
            remove=list(self._folder.everything) if self._ephemeral else [],
        )

    def _wait_until_ready(self) -> bool:
        """Whether the server takes connections; false when it has ended instead, or takes too long."""
        status = self._folder.data / "postmaster.pid"
        deadline = time.monotonic() + _START_SECONDS
        while self._server.is_running and time.monotonic() < deadline:
            try:
                lines = status.read_text().splitlines()
            except OSError:
                lines = []
            if len(lines) > 7 and lines[7].strip() == "ready":
                return True
            time.sleep(_POLL_SECONDS)
        return False


def _facts(port: int, password: str) -> ConnectionFacts:
    return ConnectionFacts("127.0.0.1", port, SUPERUSER, password, DATABASE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
