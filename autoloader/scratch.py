"""A process's own folder for staged bytes, which goes with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".lock"


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A new folder below `home`; what killed processes have left of theirs is removed.

    Whose owner lives is told by a lock, which cannot outlive its holder: containers that share a home do not see each other's processes.
    """
    staging = home / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    _remove_left(staging)
    mine, descriptor = _own(staging)
    try:
        yield mine
    finally:
        _remove(mine)
        os.close(descriptor)


def _own(staging: Path) -> tuple[Path, int]:
    while True:
        mine = staging / uuid.uuid4().hex
        descriptor = _locked(_lock_of(mine))
        if descriptor is not None:
            mine.mkdir()
            return mine, descriptor


def _remove_left(staging: Path) -> None:
    for lock in staging.glob(f"*{_LOCK}"):
        # Another user's are for that user to remove.
        with suppress(PermissionError):
            if (descriptor := _locked(lock)) is not None:
                try:
                    _remove(lock.with_suffix(""))
                finally:
                    os.close(descriptor)


def _remove(folder: Path) -> None:
    """The lock last: until then the folder has an owner."""
    shutil.rmtree(folder, ignore_errors=True)
    _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _locked(lock: Path) -> int | None:
    """The descriptor that holds the lock for as long as it is open; None when another holds it, or has just removed it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(lock).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
