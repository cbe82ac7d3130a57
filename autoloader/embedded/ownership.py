"""One owner of a cluster at a time, by a lock that cannot outlive its holder."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

from autoloader.embedded.errors import EmbeddedPostgresError, EmbeddedPostgresInUseError
from autoloader.embedded.processes import start_ticks

_PATIENCE_SECONDS = 30.0
_GRACE_SECONDS = 0.5
_POLL_SECONDS = 0.01


def take_ownership(lock: Path) -> int:
    """Lock the file, write in it who we are, and return its descriptor: the lock lives as long as that is open.

    The owner hands the descriptor to its supervisor, which holds it until postgres has gone. So when the owner is dead
    but the lock is held, a shutdown is under way, and we wait for it. When the owner is alive, this is an error, after the
    moment that a process takes to go when it has just been killed.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedPostgresError(f"the lock file {lock} cannot be opened: {error.strerror}") from error
    begun = time.monotonic()
    try:
        while not _locked(descriptor):
            pid, waited = _living_owner(descriptor), time.monotonic() - begun
            if pid is not None and waited > _GRACE_SECONDS:
                raise EmbeddedPostgresInUseError(f"the embedded PostgreSQL in {lock.parent} is in use by process {pid}", pid)
            if waited > _PATIENCE_SECONDS:
                raise EmbeddedPostgresError(f"the embedded PostgreSQL in {lock.parent} is still being shut down; try again later")
            time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}).encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _living_owner(descriptor: int) -> int | None:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        pid, started = int(owner["pid"]), int(owner["start_ticks"])
    except (ValueError, KeyError, TypeError):
        return None  # It is just being written.
    return pid if start_ticks(pid) == started else None
