"""A Prefect server of this machine's own: on loopback, behind a password, in a file; it ends with the process that started it."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from autoloader.embedded.supervised import Supervised
from autoloader.kept_secret import kept_secret
from domain.errors import UnavailableError

_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_ASK_EVERY_SECONDS = 0.1
_LOG_LIMIT_BYTES = 16 * 2**20


class LocalPrefect:
    """Its data and its log stay in `folder`. `port` 0 is a free one."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder.absolute()
        self._port = port
        self._server = Supervised()

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api"

    @property
    def log(self) -> Path:
        return self._folder / "server.log"

    @property
    def auth_string(self) -> str:
        """What its clients send; made by the first start, and readable by its owner alone."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return kept_secret(self._folder / "auth", lambda: f"autoloader:{secrets.token_urlsafe(24)}")

    def start(self) -> None:
        """Returns when it answers. The first time its database is laid out, which takes some ten seconds of a processor."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self._port))
            except OSError as error:
                raise UnavailableError(f"the port {self._port} for Prefect is taken") from error
            self._port = int(probe.getsockname()[1])
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AUTOLOADER_"))},
            "PREFECT_HOME": str(self._folder),
            "PREFECT_SERVER_API_AUTH_STRING": self.auth_string,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self._folder}/prefect.db",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
            "DO_NOT_TRACK": "1",
        }
        server = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        command = [*server, "--host", "127.0.0.1", "--port", str(self._port), "--log-level", "warning"]
        self._server.start(command, environment, log=self.log, log_limit_bytes=_LOG_LIMIT_BYTES)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Ends it, and returns when it has ended."""
        self._server.stop(_STOP_SECONDS)

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on: what it waits for ends it.
            await asyncio.to_thread(self.stop)
            await asyncio.wait([starting])
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.to_thread(self.stop)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with httpx.Client(trust_env=False, timeout=5) as client:
            while self._server.is_running and time.monotonic() < deadline:
                try:
                    if client.get(f"{self.api_url}/health").status_code == httpx.codes.OK:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(_ASK_EVERY_SECONDS)
        self.stop()
        raise UnavailableError(f"the local Prefect server did not start; see {self.log}")
