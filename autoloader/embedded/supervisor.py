"""The small process between us and postgres: it ends postgres when we end, however we end.

Run as `python -I -S supervisor.py SPEC`, with nothing of the project importable, so that it starts in milliseconds and
stays small. What it runs gets its own environment, which may hold secrets; its command line, which everybody on the machine can read,
holds none. It is single-threaded on purpose: the kernel's parent-death signal comes when the *thread* that forked ends.

- Our end of the control pipe closes (stop, exit, crash, SIGKILL), or our pid goes: fast shutdown of postgres, then immediate, then SIGKILL.
- The supervisor itself is killed: the kernel sends postgres the fast shutdown signal.
- Postgres writes its log through us: the file is kept under a size, and the pipe's end says that every last backend has gone.
The owner's lock is inherited and held until then.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_ESCALATION = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


class Log:
    """An append-only file that becomes `<name>.1` when it is full."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        self._path, self._limit = path, limit_bytes
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # A full disk must not stop the supervision.
            if os.fstat(self._file).st_size > self._limit:
                os.close(self._file)
                os.replace(self._path, f"{self._path}.1")
                self._open()
            os.write(self._file, data)

    def close(self) -> None:
        os.close(self._file)


def _start(spec: dict[str, object], command: list[str], environment: dict[str, str], log_end: int) -> int:
    supervisor = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid:
        return pid
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log_end, 1)
        os.dup2(log_end, 2)
        if spec["uid"] is not None:
            os.setgroups([])
            os.setgid(int(str(spec["gid"])))
            os.setuid(int(str(spec["uid"])))
        # After the change of user, which would clear it. Our parent may have died before it was set.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() == supervisor:
            os.execve(command[0], command, environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error}\n".encode())
    finally:
        os._exit(127)


def _parent_handle(pid: int) -> int | None:
    """A descriptor that becomes readable when our parent ends, even if a fork of it keeps the control pipe open."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def main() -> int:
    spec = json.loads(sys.argv[1])
    control, parent = int(spec["control"]), _parent_handle(int(spec["parent"]))
    if os.getppid() != int(spec["parent"]):
        return 1  # It ended before we began.
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: None)
    log_read, log_write = os.pipe2(os.O_CLOEXEC)
    log = Log(spec["log"], int(spec["log_limit_bytes"]))
    child = _start(spec, spec["command"], dict(os.environ), log_write)
    os.close(log_write)

    poll = select.poll()
    for descriptor in (log_read, wake_read, control, *([parent] if parent is not None else [])):
        poll.register(descriptor, select.POLLIN)
    steps = iter(_ESCALATION)
    deadline: float | None = None
    stopping = False
    while True:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = {descriptor for descriptor, _ in poll.poll(wait)}
        if log_read in ready:
            data = os.read(log_read, 65536)
            if not data:
                break  # Nobody holds the other end: postgres and all its children have gone.
            log.write(data)
            ready.discard(log_read)
        if ready and not stopping:
            stopping = True
            deadline = time.monotonic()
        for descriptor in ready:
            poll.unregister(descriptor)
        if deadline is not None and time.monotonic() >= deadline:
            step = next(steps, None)
            if step is None:
                break  # What survives SIGKILL is left to the next owner.
            os.kill(child, step[0])
            deadline = time.monotonic() + step[1]
    log.close()
    _, status = os.waitpid(child, 0)
    for folder in spec["remove"]:
        shutil.rmtree(folder, ignore_errors=True)
    return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
