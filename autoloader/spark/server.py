"""A local Spark Connect server, for one machine: on loopback, with a token, and no longer there when its owner has gone."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from autoloader.spark.errors import SparkServerError

READY_SECONDS = 120.0
_STARTED = re.compile(rb"Spark Connect server started at: \S+:(\d+)")
_POLL_SECONDS = 0.05
_KEPT = frozenset({"PATH", "HOME", "JAVA_HOME", "LANG", "TMPDIR"})
_ENDPOINT = "AWS_ENDPOINT_URL"
_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"


@dataclass(frozen=True, slots=True)
class SparkFacts:
    """Where a server listens, and the token that lets in."""

    url: str
    token: str = field(repr=False)


class LocalSparkServer:
    """One server and its scratch `folder`, which it owns. Used as a context manager, or by `start` and `stop`."""

    def __init__(
        self, folder: Path, jars: Sequence[Path], *, token: str, port: int = 0, memory: str = "1g", cores: int | None = None
    ) -> None:
        self._folder = folder
        self._jars = jars
        self._token = token
        self._port = port
        self._memory = memory
        self._cores = cores or os.cpu_count() or 1
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self._folder / "server.log"

    def start(self) -> SparkFacts:
        """Return when the server answers. Raises `SparkServerError`."""
        submit = _spark_home() / "bin" / "spark-submit"
        if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
            raise SparkServerError("there is no Java: Spark needs version 17 or 21")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")), str(submit), *self._arguments()]
        with self.log.open("wb") as log:
            self._keeper = subprocess.Popen(  # noqa: S603
                command,
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return SparkFacts(f"sc://localhost:{self._started(self._keeper)}", self._token)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, and remove its scratch files but the log."""
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._keeper.send_signal(signal.SIGKILL)
            self._keeper.wait()
        self._keeper = None
        for entry in self._folder.iterdir():
            if entry != self.log:
                shutil.rmtree(entry, ignore_errors=True)

    def wait(self) -> None:
        """Until the server has ended, by itself or by `stop`."""
        if self._keeper is not None:
            self._keeper.wait()

    def __enter__(self) -> SparkFacts:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _started(self, keeper: subprocess.Popen[bytes]) -> int:
        """The port, once the log tells it."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if found := _STARTED.search(self.log.read_bytes()):
                return int(found[1])
            if keeper.poll() is not None:
                raise SparkServerError(f"Spark ended with {keeper.returncode} while it was starting; {self.log} tells why")
            if time.monotonic() > deadline:
                raise SparkServerError(f"Spark did not start within {READY_SECONDS:.0f} seconds; {self.log} tells how far it came")
            time.sleep(_POLL_SECONDS)

    def _arguments(self) -> list[str]:
        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(self._port),
            # Iceberg's branches and procedures.
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            "spark.sql.warehouse.dir": str(self._folder / "warehouse"),
            "spark.sql.catalogImplementation": "in-memory",
            # Not the 200 of a cluster: each shuffle opens a file for each of them.
            "spark.sql.shuffle.partitions": str(self._cores),
            # Thousands of paths are named in one plan.
            "spark.connect.grpc.maxInboundMessageSize": str(256 << 20),
            **_own_store(),
        }
        confs = [argument for name, value in settings.items() for argument in ("--conf", f"{name}={value}")]
        jars = ",".join(map(str, self._jars))
        return [
            "--class",
            _CLASS,
            "--master",
            f"local[{self._cores}]",
            "--driver-memory",
            self._memory,
            "--jars",
            jars,
            *confs,
            "spark-internal",
        ]

    def _environment(self) -> dict[str, str]:
        """The token and Spark's own keys for S3 go by the environment: everybody on the machine can read command lines."""
        kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("AWS_")}
        # The SDK would send all that names no endpoint there, whoever's it is.
        kept.pop(_ENDPOINT, None)
        ours = {
            "SPARK_HOME": str(_spark_home()),
            "SPARK_CONNECT_AUTHENTICATE_TOKEN": self._token,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_HOSTNAME": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(self._folder / "local"),
        }
        return kept | ours


def _own_store() -> dict[str, str]:
    """Where the S3 is that Spark's own keys are for, if it is not AWS itself."""
    endpoint = os.environ.get(_ENDPOINT)
    if not endpoint:
        return {}
    return {
        "spark.hadoop.fs.s3a.endpoint": endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": os.environ.get("AWS_REGION") or "us-east-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
    }


def _spark_home() -> Path:
    found = importlib.util.find_spec("pyspark")
    for place in (found.submodule_search_locations or ()) if found else ():
        if (Path(place) / "bin" / "spark-submit").is_file():
            return Path(place)
    raise SparkServerError("there is no Spark here: install autoloader's extra 'spark'")
