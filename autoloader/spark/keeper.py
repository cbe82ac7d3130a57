"""The small process between us and a Spark server: it ends the server when we end, however we end.

Run as `python -I -S keeper.py COMMAND...`. Our end of its standard input closes when we stop, crash or are killed: the server's process
group gets SIGTERM, and SIGKILL when that was not enough. When the keeper itself is killed, the kernel ends the server. It is
single-threaded on purpose: the kernel's parent-death signal comes when the *thread* that forked ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PATIENCE_SECONDS = 3.0


def _start(command: list[str]) -> int:
    keeper = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == keeper:
            os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    finally:
        os._exit(127)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    server = _start(sys.argv[1:])
    ended = os.pidfd_open(server)
    ready, _, _ = select.select([0, ended], [], [])
    if ended not in ready:
        _signal(server, signal.SIGTERM)
        select.select([ended], [], [], _PATIENCE_SECONDS)
    _signal(server, signal.SIGKILL)
    _, status = os.waitpid(server, 0)
    return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
