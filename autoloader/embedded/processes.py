"""What /proc tells about processes: which one a pid is, and which still live in a folder."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_POLL_SECONDS = 0.005


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; with the pid it names one process for good. None when it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # A zombie has ended; only its entry is left.
    return None if fields[0] in "ZX" else int(fields[19])


def postgres_processes_in(folder: Path) -> dict[int, int]:
    """The pids of the postgres processes that work in the data folder `folder`, with their parents' pids.

    A postmaster and its children have that folder as their working folder. So may a person's shell, which is not listed.
    """
    found: dict[int, int] = {}
    real = os.path.realpath(folder)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(f"/proc/{entry.name}/cwd").removesuffix(" (deleted)") != real:
                continue
            name, _, rest = Path(f"/proc/{entry.name}/stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if name in {"postgres", "postmaster"} and state not in "ZX":
            found[int(entry.name)] = int(parent)
    return found


def end_postgres_in(folder: Path) -> bool:
    """Stop the postgres that an owner killed earlier left in `folder`; false when some of it is there even after SIGKILL.

    The postmaster gets a fast shutdown, then an immediate one; children without a postmaster end by themselves.
    """
    for name, patience in ((signal.SIGINT, 10.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0)):
        there = postgres_processes_in(folder)
        for pid, parent in there.items():
            if parent not in there or name is signal.SIGKILL:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, name)
        deadline = time.monotonic() + patience
        while there and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            there = postgres_processes_in(folder)
        if not there:
            return True
    return False
