"""Real `autoloader worker` processes that die, or stop, at a step. A script; see `tests.chaos.workers`.

Importing the program takes longer than all that a small run does, so this process does it once and forks for each worker. It reads an
order a line, as JSON, and answers with the worker's process id. Its workers are killed when it ends, however it ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from itertools import count
from typing import Any

from sqlalchemy import Connection, Engine, event

import autoloader.stack
from autoloader.cli import main
from domain import steps

_PR_SET_PDEATHSIG = 1
_IMPORTED_ONCE = autoloader.stack
"""Which the command line imports when it is needed, and each fork would again."""


def host() -> None:
    # So that nobody has to wait for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    ours = os.getpid()
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _work(json.loads(line), host=ours)
        print(pid, flush=True)


def _work(order: dict[str, Any], host: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != host:
        os._exit(1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(source, stream)
    os.environ.update(order["environment"])
    if order["step"] is not None:
        steps.on_step = _signal_at(order["step"], order["nth"], order["signal"], order["before_commit_of"])
    if order["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"], order["largest_file"]))
    sys.argv = ["autoloader", "worker"]
    try:
        main()
    except SystemExit as ended:
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    finally:
        sys.stdout.flush()
        os._exit(1)


def _signal_at(step: str, nth: int, number: int, before_commit_of: str | None) -> Any:
    reached = count(1)

    def at(here: steps.Step) -> None:
        if here == step and next(reached) == nth:
            if before_commit_of is None:
                os.kill(os.getpid(), number)
            else:
                event.listen(Engine, "commit", in_the_transaction, once=True)

    def in_the_transaction(connection: Connection) -> None:
        if connection.dialect.driver == before_commit_of:
            os.kill(os.getpid(), number)
        else:
            event.listen(Engine, "commit", in_the_transaction, once=True)

    return at


if __name__ == "__main__":
    host()
