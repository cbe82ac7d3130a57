"""The whole stack in a process of its own, as it serves: `python -m benchmarks.server FOLDER`. Ends when its input does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autoloader.stack import running_stack
from benchmarks.bench_stack import settings_in


@dataclass(frozen=True, slots=True)
class Served:
    """Where the API is, its key, and the database behind it (`postgresql://...`)."""

    url: str
    key: str
    database: str


@contextmanager
def served(place: Path) -> Iterator[Served]:
    command = [sys.executable, "-m", "benchmarks.server", str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start")
        yield Served(**json.loads(line))
        # Leaving the `with` closes its input and waits for its end.


async def _serve(place: Path) -> None:
    async with running_stack(settings_in(place)) as stack:
        database = stack.application.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        print(json.dumps({"url": stack.url, "key": stack.key, "database": database}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
