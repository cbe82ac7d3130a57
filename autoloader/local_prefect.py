"""A Prefect server of this machine's own: on loopback, behind a password, in a file; it ends with the process that started it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from autoloader.embedded import supervisor
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
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._control: int | None = None

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api"

    @property
    def log(self) -> Path:
        return self._folder / "server.log"

    @property
    def auth_string(self) -> str:
        """What its clients send; made by the first start, and readable by its owner alone."""
        kept = self._folder / "auth"
        if not kept.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"autoloader:{secrets.token_urlsafe(24)}")
        return kept.read_text()

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
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(self._folder),
            "PREFECT_SERVER_API_AUTH_STRING": self.auth_string,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self._folder}/prefect.db",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
            "DO_NOT_TRACK": "1",
        }
        server = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        theirs, self._control = os.pipe()
        spec = {
            "command": [*server, "--host", "127.0.0.1", "--port", str(self._port), "--log-level", "warning"],
            "environment": environment,
            "uid": None,
            "gid": None,
            "log": str(self.log),
            "log_limit_bytes": _LOG_LIMIT_BYTES,
            "parent": os.getpid(),
            "control": theirs,
            "remove": [],
        }
        try:
            self._supervisor = subprocess.Popen(  # noqa: S603 - our own script, no shell
                [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(spec)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C at the terminal is ours to handle, not the server's.
                cwd="/",
            )
        finally:
            os.close(theirs)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Ends it, and returns when it has ended."""
        process, self._supervisor = self._supervisor, None
        control, self._control = self._control, None
        if control is not None:
            os.close(control)
        if process is not None:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

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
            while (process := self._supervisor) is not None and process.poll() is None and time.monotonic() < deadline:
                try:
                    if client.get(f"{self.api_url}/health").status_code == httpx.codes.OK:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(_ASK_EVERY_SECONDS)
        self.stop()
        raise UnavailableError(f"the local Prefect server did not start; see {self.log}")
