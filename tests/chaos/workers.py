"""Worker processes, and what they are told to die of."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from domain.steps import Step
from tests.chaos import worker_host

_ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 0.01
_ENDING_SECONDS = 180.0


@dataclass(frozen=True)
class Order:
    """`signal` is sent by the worker to itself when it has reached the step for the `nth` time; or, with `before_commit_of`, when it is
    about to commit the next transaction through that driver. `largest_file` is in bytes: writing beyond it fails, as on a full disk.
    """

    step: Step | None = None
    nth: int = 1
    signal: int = signal.SIGKILL
    before_commit_of: str | None = None
    largest_file: int | None = None


NOTHING_GOES_WRONG = Order()


@dataclass(frozen=True)
class Worker:
    pid: int
    log: Path

    @property
    def _state(self) -> str | None:
        """The kernel's letter; None when it has ended."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if state in "ZX" else state

    def has_ended(self) -> bool:
        return self._state is None

    def has_stopped(self) -> bool:
        """It stands at its step."""
        assert not self.has_ended(), f"the worker ended before it came there:\n{self.told()}"
        return self._state == "T"

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def terminate(self) -> None:
        """As a service manager ends it."""
        os.kill(self.pid, signal.SIGTERM)
        await self.ended()

    async def ended(self) -> None:
        try:
            async with asyncio.timeout(_ENDING_SECONDS):
                while not self.has_ended():
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"it did not end; its state is {self._state}:\n{self.told()}") from None

    def told(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-6_000:] if self.log.exists() else ""


class Workers:
    def __init__(self, host: asyncio.subprocess.Process) -> None:
        self._host = host
        self._one_at_a_time = asyncio.Lock()

    async def start(self, environment: Mapping[str, str], log: Path, order: Order = NOTHING_GOES_WRONG) -> Worker:
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        line = json.dumps(asdict(order) | {"environment": dict(environment), "log": str(log)}) + "\n"
        async with self._one_at_a_time:
            self._host.stdin.write(line.encode())
            await self._host.stdin.drain()
            return Worker(int(await self._host.stdout.readline()), log)


@asynccontextmanager
async def workers() -> AsyncIterator[Workers]:
    """Those that are left at the end are killed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOLOADER_")}
    environment |= {"PYTHONPATH": str(_ROOT), "COLUMNS": "200"}
    command = (sys.executable, "-m", worker_host.__name__)
    host = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd="/"
    )
    try:
        assert host.stdout is not None
        assert await host.stdout.readline() == b"ready\n"
        yield Workers(host)
    finally:
        host.kill()
        await host.wait()
