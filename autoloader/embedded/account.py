"""The user that PostgreSQL runs as, and what that user can reach."""

from __future__ import annotations

import os
import pwd
import tempfile
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE, S_ISDIR

from autoloader.embedded.errors import EmbeddedPostgresError

_READ, _SEARCH = 4, 1
_SHARED_HOMES = (Path("/var/lib/autoloader"), Path(tempfile.gettempdir()) / "autoloader-root")


@dataclass(frozen=True, slots=True)
class Account:
    """A user by number. `switch` is true when a process must change to it, that is, when we are root."""

    uid: int
    gid: int
    name: str
    switch: bool

    def take(self, path: Path) -> None:
        """Make `path` this account's own."""
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def can_read(self, path: Path) -> bool:
        """Whether this account can come to `path` and read it, by mode bits; a link stands for what it points at."""
        if not self.switch:
            return os.access(path, os.R_OK)
        try:
            real = path.resolve(strict=True)
            return self._may(real, _READ) and self.can_come_to(real)
        except OSError:
            return False

    def can_come_to(self, path: Path) -> bool:
        """Whether every folder above `path` lets this account through."""
        return not self.switch or all(self._may(folder, _SEARCH) for folder in path.absolute().parents)

    def _may(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        wanted |= _SEARCH if S_ISDIR(status.st_mode) else 0
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return (S_IMODE(status.st_mode) >> shift) & wanted == wanted


def postgres_account(run_as: str, data: Path) -> Account:
    """The account for a cluster in `data`: ourselves or, since postgres refuses root, the data's owner, else `run_as`."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), str(os.geteuid()), switch=False)
    try:
        entry = pwd.getpwnam(run_as)
        owner = data.stat().st_uid if data.exists() else 0
        if owner not in {0, entry.pw_uid}:
            entry = pwd.getpwuid(owner)
    except KeyError as error:
        raise EmbeddedPostgresError(f"PostgreSQL cannot run as root, and there is no such user: {error.args[0]}") from None
    if entry.pw_uid == 0:
        raise EmbeddedPostgresError(f"PostgreSQL cannot run as root, and {run_as} is root: name another user")
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name, switch=True)


def shared_home() -> Path:
    """A folder of root's that every user can come to: for what the unprivileged account needs and cannot reach elsewhere.

    /var/lib/autoloader, or a folder of the temporary folder where that cannot be made. A folder that somebody else
    made or may write to is refused.
    """
    reasons: list[str] = []
    for home in _SHARED_HOMES:
        try:
            home.mkdir(mode=0o755, exist_ok=True)
            status = home.lstat()
            if not S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                reasons.append(f"{home} is not a folder that only root may write to")
                continue
            home.chmod(0o755)
        except OSError as error:
            reasons.append(f"{home}: {error.strerror}")
            continue
        return home
    raise EmbeddedPostgresError(f"no folder for PostgreSQL that an unprivileged user can reach: {'; '.join(reasons)}")
