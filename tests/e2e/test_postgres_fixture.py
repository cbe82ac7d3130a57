"""The fixtures that give each test a database of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import psycopg2
import pytest

from autoloader.embedded.postgres import EmbeddedPostgres
from tests.fixtures.embedded_owner import ended
from tests.fixtures.postgres import EXTERNAL, ServerFacts, TestServer


async def _connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(url.replace("+asyncpg", ""))


@pytest.mark.parametrize("turn", [1, 2])
async def test_a_test_sees_nothing_of_another(database_url: str, turn: int) -> None:
    connection = await _connect(database_url)
    # Left open on purpose: dropping the database must not wait for it.
    await connection.execute("CREATE TABLE only_mine (turn int)")
    await connection.execute("INSERT INTO only_mine VALUES ($1)", turn)
    assert await connection.fetchval("SELECT array_agg(turn) FROM only_mine") == [turn]
    connection.terminate()


async def test_an_empty_database_has_no_tables(empty_database_url: str) -> None:
    connection = await _connect(empty_database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.close()


def test_urls_keep_credentials_and_change_the_database() -> None:
    facts = ServerFacts("postgresql://me:s%40cret@127.0.0.1:5555/postgres?sslmode=disable", "template")
    assert facts.url_of("mine") == "postgresql+asyncpg://me:s%40cret@127.0.0.1:5555/mine?sslmode=disable"


def test_a_server_that_nobody_asks_for_is_not_started() -> None:
    server = TestServer()
    server.close()
    assert server._embedded is None


_SESSION = """
import os
from pathlib import Path

import psycopg2
import pytest

told = Path(__file__).parent / "told"


@pytest.mark.parametrize("turn", range(4))
def test_database(database_url, turn):
    connection = psycopg2.connect(database_url.replace("+asyncpg", ""))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), current_database()")
        backend, database = cursor.fetchone()
    postmaster = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1]
    (told / str(turn)).write_text(f"{os.environ.get('PYTEST_XDIST_WORKER')} {postmaster} {database}")
    if turn == int(os.environ.get("CRASH_AT", -1)):
        os._exit(1)
"""


def run_session(folder: Path, *options: str, **environment: str) -> tuple[int, list[tuple[str, int, str]]]:
    """Run a small pytest session; its exit code and, for each of its tests, the worker, the postmaster's pid and the database."""
    (folder / "told").mkdir()
    (folder / "test_session.py").write_text(_SESSION)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    plugins = ("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "tests.fixtures.postgres")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, *options, "test_session.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    told = [path.read_text().split() for path in sorted((folder / "told").iterdir())]
    return done.returncode, [(worker, int(postmaster), database) for worker, postmaster, database in told]


def test_workers_share_one_server_that_is_gone_at_the_end_even_if_one_crashed(tmp_path: Path) -> None:
    exit_code, tests = run_session(tmp_path, "-n2", "--dist=load", CRASH_AT="1", **{EXTERNAL: ""})
    assert exit_code == pytest.ExitCode.TESTS_FAILED
    assert len({worker for worker, _, _ in tests}) >= 2
    (postmaster,) = {postmaster for _, postmaster, _ in tests}
    assert len({database for _, _, database in tests}) == len(tests) == 4
    assert ended(postmaster)


def test_a_server_of_ones_own_is_used_and_left_as_it_was() -> None:
    with tempfile.TemporaryDirectory() as home, EmbeddedPostgres(Path(home) / "postgres", durable=False, ephemeral=True) as facts:
        session = Path(home) / "session"
        session.mkdir()
        exit_code, tests = run_session(session, **{EXTERNAL: facts.url()})
        assert exit_code == pytest.ExitCode.OK
        connection = psycopg2.connect(facts.url(driver="postgresql"))
        with connection.cursor() as cursor:
            cursor.execute("SELECT array(SELECT datname::text FROM pg_database ORDER BY 1)")
            (databases,) = cursor.fetchone()
        connection.close()
    assert len({database for _, _, database in tests}) == 4
    assert databases == ["autoloader", "postgres", "template0", "template1"]
