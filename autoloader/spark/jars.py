"""What Spark needs beside itself: fetched once by Maven, checked, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoloader.spark.errors import SparkServerError

_FETCH_SECONDS = 600
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy"


@dataclass(frozen=True, slots=True)
class Jar:
    """A file of Maven Central, and the SHA-256 of its bytes."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinates(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


JARS = (
    # For the minor of pyspark in pyproject.toml: a runtime for another one fails with linkage errors.
    Jar(
        "org.apache.iceberg",
        "iceberg-spark-runtime-4.1_2.13",
        "1.12.0",
        "3123c3798af642dd537230923548e013ef41cc28b6626e5225808cf5670a0f82",
    ),
    # Tables in S3, and the AWS SDK for s3a.
    Jar("org.apache.iceberg", "iceberg-aws-bundle", "1.12.0", "dd7e49ffa4ac9b215bed846581991259e3aec9bb2fa08d6cec029c46cd66d957"),
    # Sources in S3; the version of Hadoop that this Spark brings.
    Jar("org.apache.hadoop", "hadoop-aws", "3.4.2", "d2d24e6b715b5656b9d238bf13b6682a07e2004dd36aad74a73aeb854319f4d9"),
    # What s3a needs of the AWS SDK that the bundle does not have; of the bundle's version.
    Jar("software.amazon.awssdk", "apache-client", "2.54.17", "0b00ae3d55c3d1213ca47b5651dc4c2a0080fc9b6192dde3d53c3da6c1811bcb"),
    Jar("software.amazon.awssdk", "s3-transfer-manager", "2.54.17", "7bef0ea4efd5e0860bab63e08317040951edb51b72a5be734284c28b8324ab87"),
    Jar("org.apache.spark", "spark-avro_2.13", "4.1.1", "6a19d90bc3b6e88d8db0fa36a19273aa10fea2dbd7a62bb60e4cedd73051b32d"),
    # The catalog.
    Jar("org.postgresql", "postgresql", "42.7.8", "2a32a9dcbc42d67a50ad3a0de5efd102c8d2be46720045f2cbd6689f160ab7c7"),
)


def jar_folder() -> Path:
    """`autoloader/spark-jars` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autoloader" / "spark-jars"


def present_jars(folder: Path, jars: Sequence[Jar] = JARS) -> list[Path]:
    """The jars' paths. Raises `SparkServerError` when one is not there."""
    missing = [jar.name for jar in jars if not (folder / jar.name).is_file()]
    if missing:
        raise SparkServerError(f"{folder} lacks {', '.join(missing)}: run 'make spark-jars'")
    return [folder / jar.name for jar in jars]


def fetch_jars(folder: Path, jars: Sequence[Jar] = JARS) -> list[Path]:
    """Fetch what is missing, with the machine's own Maven and its mirrors. Raises `SparkServerError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for jar in jars:
        if not (folder / jar.name).is_file():
            _fetch(jar, folder)
    return [folder / jar.name for jar in jars]


def _fetch(jar: Jar, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise SparkServerError("there is no Maven: install it (the command mvn), which fetches Spark's jars")
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as scratch:
        command = [maven, "--batch-mode", "--quiet", _PLUGIN, f"-Dartifact={jar.coordinates}", f"-DoutputDirectory={scratch}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise SparkServerError(f"Maven did not fetch {jar.coordinates} within {_FETCH_SECONDS} seconds") from None
        fetched = Path(scratch) / jar.name
        if done.returncode or not fetched.is_file():
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise SparkServerError(f"Maven did not fetch {jar.coordinates}: {lines[0] if lines else 'it said nothing'}")
        with fetched.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != jar.sha256:
            raise SparkServerError(f"{jar.coordinates} is not what it was: its SHA-256 is {digest}, not {jar.sha256}")
        # At once, so that nobody ever sees half a jar.
        fetched.replace(folder / jar.name)
