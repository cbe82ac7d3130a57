"""Jars are fetched once, checked, and never seen in half."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from autoloader.spark.errors import SparkServerError
from autoloader.spark.jars import JARS, Jar, fetch_jars, jar_folder, present_jars

CONTENT = b"a jar"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())
# Writes what it was asked for into the folder that it was told.
MAVEN = """#!/bin/sh
for argument; do case "$argument" in -DoutputDirectory=*) printf 'a jar' > "${argument#*=}/thing-1.0.jar";; esac; done
echo called >> "$(dirname "$0")/calls"
"""


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program; `calls` beside it has a line for each call."""
    program = tmp_path / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(MAVEN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def test_what_is_missing_is_fetched_once(maven: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"

    assert fetch_jars(folder, [JAR]) == fetch_jars(folder, [JAR]) == [folder / "thing-1.0.jar"]

    assert (folder / "thing-1.0.jar").read_bytes() == CONTENT
    assert (maven.parent / "calls").read_text().splitlines() == ["called"]
    assert present_jars(folder, [JAR]) == [folder / "thing-1.0.jar"]


def test_another_content_is_refused_and_not_kept(maven: Path, tmp_path: Path) -> None:
    other = Jar("org.example", "thing", "1.0", "0" * 64)

    with pytest.raises(SparkServerError, match=r"^org\.example:thing:1\.0 is not what it was"):
        fetch_jars(tmp_path / "cache", [other])

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failing_maven_is_quoted(maven: Path, tmp_path: Path) -> None:
    maven.write_text("#!/bin/sh\necho '[ERROR] no network'\nexit 1\n")

    with pytest.raises(SparkServerError) as failed:
        fetch_jars(tmp_path / "cache", [JAR])

    assert str(failed.value) == "Maven did not fetch org.example:thing:1.0: [ERROR] no network"


def test_without_maven_it_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SparkServerError, match=r"^there is no Maven"):
        fetch_jars(tmp_path / "cache", [JAR])


def test_missing_jars_are_named(tmp_path: Path) -> None:
    with pytest.raises(SparkServerError) as missing:
        present_jars(tmp_path, [JAR])

    assert str(missing.value) == f"{tmp_path} lacks thing-1.0.jar: run 'make spark-jars'"


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")

    assert jar_folder() == Path("/somewhere/autoloader/spark-jars")


def test_icebergs_runtime_is_for_the_spark_that_is_installed() -> None:
    import pyspark

    minor = ".".join(pyspark.__version__.split(".")[:2])
    assert f"iceberg-spark-runtime-{minor}_2.13" in {jar.artifact for jar in JARS}
