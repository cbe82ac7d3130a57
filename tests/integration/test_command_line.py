"""The command line's answers when something is wrong: one line each, and an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoloader.cli import _tell, app
from autoloader.settings import Settings
from autoloader.stack import running_stack

NOWHERE = "postgresql+asyncpg://somebody:secret@127.0.0.1:1/nothing"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOLOADER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AUTOLOADER_LOCAL_ROOTS", str(tmp_path))
    return tmp_path


def test_doctor_finds_nothing_wrong_with_a_good_database(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLOADER_DATABASE_URL", database_url)
    result = CliRunner().invoke(app, ["doctor"])
    lines = result.output.splitlines()
    assert result.exit_code == 0, result.output
    assert [line.split(":")[0] for line in lines] == [
        "ok   database",
        "ok   migrations",
        "ok   catalog",
        "ok   warehouse",
        "ok   local root",
    ]


def test_doctor_says_in_one_line_each_what_is_wrong(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLOADER_DATABASE_URL", NOWHERE)
    monkeypatch.setenv("AUTOLOADER_LOCAL_ROOTS", str(home / "missing"))
    monkeypatch.setenv(
        "AUTOLOADER_CREDENTIALS", '{"lab": {"endpoint_url": "http://127.0.0.1:1", "access_key_id": "a", "secret_access_key": "s3cr3t"}}'
    )
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [line.split(":")[0] for line in lines] == ["FAIL database", "ok   warehouse", "FAIL local root", "FAIL credential lab"]
    assert "secret" not in result.output
    assert "s3cr3t" not in result.output


def test_doctor_asks_the_identity_provider(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLOADER_DATABASE_URL", database_url)
    monkeypatch.setenv("AUTOLOADER_OIDC", '{"issuer": "http://127.0.0.1:1", "audience": "autoloader"}')
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL identity provider: the identity provider's keys are not available" in result.output


def test_doctor_tells_of_a_database_without_the_schema(home: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLOADER_DATABASE_URL", empty_database_url)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL migrations: the schema is at nothing" in result.output
    assert CliRunner().invoke(app, ["migrate"]).exit_code == 0
    assert "ok   migrations" in CliRunner().invoke(app, ["doctor"]).output


@pytest.mark.parametrize("command", ["up", "worker", "migrate"])
def test_a_database_that_is_down_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("AUTOLOADER_DATABASE_URL", NOWHERE)
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 1
    assert result.output.startswith("autoloader: the database does not let us in: ")
    assert len(result.output.splitlines()) == 1


def test_a_worker_without_a_shared_database_is_told_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOLOADER_DATABASE_URL", raising=False)
    result = CliRunner().invoke(app, ["worker"])
    assert (result.exit_code, result.output) == (1, "autoloader: a worker shares a database: set AUTOLOADER_DATABASE_URL\n")


def test_a_setting_that_makes_no_sense_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLOADER_PORT", "eighty")
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == 1
    assert result.output.startswith("autoloader: AUTOLOADER_PORT: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTOLOADER_CREDENTIALS", '{"lab": {"secret_access_key": "hidden-word"'),
        ("AUTOLOADER_METRICS_TOKEN", "hidden-word"),
        ("AUTOLOADER_DATABASE_URL", "no url, with a hidden-word"),
        ("AUTOLOADER_DATABASE_URL", "mysql://me:hidden-word@db/x"),
        ("AUTOLOADER_OTLP_ENDPOINT", "http://me:hidden-word@collector:4318"),
        ("AUTOLOADER_LOG_LEVEL", "hidden-word"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_and_not_shown(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["doctor"])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert result.output.startswith(f"autoloader: {name}: ")
    assert len(result.output.splitlines()) == 1
    assert "hidden-word" not in result.output


@pytest.mark.parametrize(("host", "told"), [("127.0.0.1", True), ("0.0.0.0", False)])
async def test_the_key_is_told_on_this_machine_alone(
    home: Path, database_url: str, capsys: pytest.CaptureFixture[str], host: str, told: bool
) -> None:
    settings = Settings(home=home / "home", database_url=database_url, host=host, port=0)
    async with running_stack(settings) as stack:
        _tell(stack)
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines if line[0] == "key"] == [stack.key if told else f"in {home / 'home' / 'local.key'}"]
    assert (home / "home" / "local.key").read_text().strip() == stack.key


async def test_a_home_without_a_key_makes_none_where_there_is_an_admin(
    tmp_path: Path, home: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "first", "second"):
        settings = Settings(home=home / name, database_url=database_url, port=0)
        async with running_stack(settings) as stack:
            _tell(stack)
            assert (stack.key is None) is (name == "second")
    assert not (home / "second" / "local.key").exists()
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("GraphiQL", "key"))]
    assert told[-2:] == [
        f"GraphiQL          {stack.url}/graphql",
        "key               an ADMIN's that the database knows already; this home has none",
    ]


def test_the_committed_schema_is_the_codes_schema() -> None:
    assert CliRunner().invoke(app, ["schema", "export", "--check"]).exit_code == 0
