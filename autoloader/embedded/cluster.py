"""A cluster on disk: where it lies, how it is made, and with which settings it runs."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autoloader.embedded.account import Account, postgres_account, shared_home
from autoloader.embedded.binaries import Binaries
from autoloader.embedded.errors import EmbeddedPostgresError
from autoloader.embedded.processes import end_postgres_in

SUPERUSER = "autoloader"
DATABASE = "autoloader"
_INITDB_SECONDS = 120


@dataclass(frozen=True, slots=True)
class ClusterFolder:
    """The folder that a cluster is kept in. It is ours alone.

    `data` is postgres's own folder. When we are root and the unprivileged account cannot come to it (a folder under
    root's home, say), `data` is a link to a folder of `shared_home()`, named after this folder's path.
    """

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def password(self) -> Path:
        return self.path / "password"

    @property
    def lock(self) -> Path:
        return self.path / "owner.lock"

    @property
    def log(self) -> Path:
        return self.path / "postgres.log"

    def prepare(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Root lets postgres's account through to its data, and to nothing else that lies here.
            self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        except OSError as error:
            raise EmbeddedPostgresError(f"the folder {self.path} for PostgreSQL cannot be used: {error.strerror}") from error

    def read_password(self) -> str:
        try:
            return self.password.read_text().strip()
        except OSError as error:
            raise EmbeddedPostgresError(
                f"the cluster in {self.path} is there, but its password file {self.password} cannot be read ({error.strerror}): "
                "put it back, or remove the folder to begin with an empty cluster"
            ) from error

    def read_port(self) -> int:
        """Where a server that runs on the cluster listens, as it has written down itself."""
        try:
            # Process, data folder, moment of the start, port.
            return int((self.data / "postmaster.pid").read_text().splitlines()[3])
        except (OSError, IndexError, ValueError) as error:
            raise EmbeddedPostgresError(f"no PostgreSQL has come up in {self.path} yet, or it is going") from error

    def log_size(self) -> int:
        try:
            return self.log.stat().st_size
        except FileNotFoundError:
            return 0

    def log_tail(self, after: int, lines: int = 20) -> tuple[str, ...]:
        """The last lines of what was logged since the log had `after` bytes."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                # It is smaller than before when it was full and another was begun.
                file.seek(max(after if after <= size else 0, size - 16_384))
                return tuple(file.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ()

    @property
    def everything(self) -> tuple[Path, ...]:
        """All folders that hold something of this cluster."""
        return (self.data.resolve(), self.path)

    def remove(self) -> None:
        for folder in self.everything:
            shutil.rmtree(folder, ignore_errors=True)


def open_cluster(folder: ClusterFolder, account: Account, binaries: Binaries, *, durable: bool) -> str:
    """Make the cluster unless it is there, check that these binaries may run it, and return the superuser's password."""
    if not (folder.data / "PG_VERSION").exists():
        _create(folder, account, binaries, durable=durable)
    data = folder.data.resolve()
    try:
        version = (data / "PG_VERSION").read_text().strip()
        owner = data.stat().st_uid
    except OSError as error:
        raise EmbeddedPostgresError(f"the cluster in {data} cannot be read: {error.strerror}") from error
    if version != str(binaries.major):
        raise EmbeddedPostgresError(
            f"the cluster in {data} was made by PostgreSQL {version}, and the programs found are PostgreSQL {binaries.version}: "
            f"install PostgreSQL {version} or move the data with pg_dump"
        )
    if owner != account.uid:
        raise EmbeddedPostgresError(f"the cluster in {data} belongs to user {owner}, and we would run PostgreSQL as user {account.uid}")
    return folder.read_password()


def _create(folder: ClusterFolder, account: Account, binaries: Binaries, *, durable: bool) -> None:
    """Build the cluster under another name and rename it, so that a half-made one is never taken for one."""
    place = _place_for_data(folder, account)
    for leftover in place.parent.glob(f".{place.name}-new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    password = secrets.token_urlsafe(32)
    fresh = Path(tempfile.mkdtemp(prefix=f".{place.name}-new-", dir=place.parent))
    try:
        account.take(fresh)
        _write_private(folder.password, password)
        _initdb(fresh, account, binaries, password, durable=durable)
        _create_database(fresh, account, binaries)
        fresh.rename(place)
        if place != folder.data:
            folder.data.unlink(missing_ok=True)
            folder.data.symlink_to(place)
    except OSError as error:
        raise EmbeddedPostgresError(f"the cluster in {folder.path} cannot be made: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _place_for_data(folder: ClusterFolder, account: Account) -> Path:
    if folder.data.is_dir() and any(folder.data.iterdir()):
        raise EmbeddedPostgresError(f"{folder.data} is neither empty nor a cluster of PostgreSQL: name another folder")
    if account.can_come_to(folder.data):
        if folder.data.is_symlink():
            folder.data.unlink()
        return folder.data
    key = hashlib.sha256(str(folder.path.absolute()).encode()).hexdigest()[:16]
    place = shared_home() / f"postgres-{key}"
    # The link is what makes data there ours: without one, it is what a removed folder of the same path has left.
    end_postgres_in(place)
    shutil.rmtree(place, ignore_errors=True)
    return place


def _write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read at any moment, and that is whole or not there."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _initdb(data: Path, account: Account, binaries: Binaries, password: str, *, durable: bool) -> None:
    # PostgreSQL 17 brought a Unicode locale of its own; before, the C library's has to do.
    locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.major >= 17 else ["--locale=C.UTF-8"]
    command = [
        *(binaries.initdb, "--pgdata", str(data), "--username", SUPERUSER, "--auth", "scram-sha-256", "--pwfile", "/dev/stdin"),
        *("--encoding", "UTF8", *locale),
        *([] if durable else ["--no-sync"]),
    ]
    read_end, write_end = os.pipe()
    try:
        if account.switch:
            os.fchown(read_end, account.uid, account.gid)  # initdb opens the pipe by name, as that account.
        os.write(write_end, password.encode() + b"\n")
        os.close(write_end)
        _run(command, account, stdin=read_end)
    finally:
        os.close(read_end)


def _create_database(data: Path, account: Account, binaries: Binaries) -> None:
    """In single-user mode, before anybody can connect."""
    with tempfile.TemporaryFile() as statement:
        statement.write(f"CREATE DATABASE {DATABASE}\n".encode())
        statement.seek(0)
        _run([binaries.postgres, "--single", "-F", "-D", str(data), "postgres"], account, stdin=statement.fileno())


def _run(command: list[str], account: Account, stdin: int) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own command, no shell
            command,
            stdin=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_INITDB_SECONDS,
            check=False,
            cwd="/",
            env=clean_environment(),
            user=account.uid if account.switch else None,
            group=account.gid if account.switch else None,
            extra_groups=() if account.switch else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(f"{command[0]} did not run: {error}") from error
    if done.returncode:
        said = tuple(line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip())[-20:]
        raise EmbeddedPostgresError(f"{Path(command[0]).name} failed with exit code {done.returncode}", said)


def clean_environment() -> dict[str, str]:
    """Nothing of ours: no PG* variable, no secret."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    if libraries := os.environ.get("LD_LIBRARY_PATH"):
        environment["LD_LIBRARY_PATH"] = libraries
    return environment


def server_settings(port: int, max_connections: int, *, durable: bool) -> dict[str, str]:
    """What postgres is started with: loopback only, and modest enough for a laptop."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(max_connections),
        "password_encryption": "scram-sha-256",
        "shared_buffers": "128MB",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "jit": "off",
        "TimeZone": "UTC",
        "log_timezone": "UTC",
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_line_prefix": "%m [%p] %d ",
        "log_checkpoints": "off",
    }
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off"}
        # In files of the cluster, so that a removed cluster leaves nothing in /dev/shm after a kill.
        settings["dynamic_shared_memory_type"] = "mmap"
    return settings


def account_for(folder: ClusterFolder, run_as: str) -> Account:
    """Whom postgres runs as, for this folder."""
    return postgres_account(run_as, folder.data)
