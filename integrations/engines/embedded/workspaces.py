"""Scratch space for one operation of the engine."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path

import duckdb

from integrations.engines.embedded.errors import StoppedError
from integrations.engines.embedded.settings import EmbeddedEngineSettings


class Workspace:
    """Scratch folder and DuckDB connection of one operation."""

    def __init__(self, settings: EmbeddedEngineSettings) -> None:
        self._settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="load-", dir=settings.staging_dir))
        self.staged = self.folder / "staged"
        self.staged.mkdir()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._stopped = threading.Event()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            config: dict[str, str | bool | int | float | list[str]] = {
                "threads": self._settings.threads,
                "memory_limit": self._settings.memory_limit,
                "temp_directory": str(self.folder / "spill"),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "preserve_insertion_order": False,
                "python_enable_replacements": False,
            }
            self._connection = duckdb.connect(config=config)
            self._connection.execute("SET TimeZone = 'UTC'")
        return self._connection

    def stop(self) -> None:
        """Make work that is under way end soon, with an error; nobody waits for its result. From any thread."""
        self._stopped.set()
        if self._connection is not None:
            self._connection.interrupt()

    def check(self) -> None:
        """Raise `StoppedError` when the work has been stopped. Long loops ask now and then."""
        if self._stopped.is_set():
            raise StoppedError

    def forget(self) -> None:
        """Begin again with an empty DuckDB."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)
