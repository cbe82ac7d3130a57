"""What a local Spark server is started with: its own credential for S3, and no secret on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoloader.spark.server import LocalSparkServer

OWN = {"AWS_ACCESS_KEY_ID": "SPARKKEY", "AWS_SECRET_ACCESS_KEY": "spark-secret-key", "AWS_ROLE_ARN": "arn:aws:iam::1:role/spark"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalSparkServer:
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    return LocalSparkServer(tmp_path, [], token="t")


def test_its_keys_come_from_the_environment_and_go_by_it(server: LocalSparkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLOADER_DATABASE_URL", "postgresql+asyncpg://autoloader:secret@db/autoloader")

    given = server._environment()

    assert OWN.items() <= given.items()
    assert "AUTOLOADER_DATABASE_URL" not in given
    assert not [argument for argument in server._arguments() if "spark-secret-key" in argument or "fs.s3a" in argument]


def test_another_store_than_aws_is_for_its_own_keys_alone(server: LocalSparkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK would take the variable for every client that names no endpoint, the sources' too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.example:9000")

    assert "AWS_ENDPOINT_URL" not in server._environment()
    assert [argument for argument in server._arguments() if "fs.s3a" in argument] == [
        "spark.hadoop.fs.s3a.endpoint=https://minio.example:9000",
        "spark.hadoop.fs.s3a.endpoint.region=us-east-1",
        "spark.hadoop.fs.s3a.path.style.access=true",
    ]
