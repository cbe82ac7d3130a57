"""`autoloader spark serve` asks for the token that it is given, or for one that it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoloader.cli import app
from autoloader.spark import server
from autoloader.spark.errors import SparkServerError
from autoloader.spark.jars import JARS

GIVEN = "the-token-of-its-clients"


@pytest.fixture
def asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens of the servers that were to be started; none is."""
    monkeypatch.setenv("AUTOLOADER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    jars = tmp_path / "cache" / "autoloader" / "spark-jars"
    jars.mkdir(parents=True)
    for jar in JARS:
        (jars / jar.name).touch()
    tokens: list[str] = []

    class NotStarted(server.LocalSparkServer):
        def __init__(self, *arguments: Any, token: str, **options: Any) -> None:
            super().__init__(*arguments, token=token, **options)
            tokens.append(token)

        def start(self) -> server.SparkFacts:
            raise SparkServerError("not here")

    monkeypatch.setattr(server, "LocalSparkServer", NotStarted)
    return tokens


def test_the_given_token_is_asked_for_and_no_other_is_made(asked_for: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLOADER_SPARK_TOKEN", GIVEN)

    result = CliRunner().invoke(app, ["spark", "serve"])

    assert (result.exit_code, result.output, asked_for) == (1, "autoloader: not here\n", [GIVEN])
    assert not (tmp_path / "home").exists()


def test_without_one_a_token_is_made_and_kept(asked_for: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOLOADER_SPARK_TOKEN", raising=False)

    CliRunner().invoke(app, ["spark", "serve"])
    CliRunner().invoke(app, ["spark", "serve"])

    assert asked_for == [(tmp_path / "home" / "spark.token").read_text().strip()] * 2
