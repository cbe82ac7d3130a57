"""What the engine is told follows from what the process is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoloader.application import engine_settings
from autoloader.settings import Settings


@pytest.mark.parametrize("runs", [1, 2, 64])
def test_every_run_finds_room_in_the_engine_and_two_operations_beside_them(runs: int) -> None:
    settings = Settings(max_concurrent_runs=runs, engine_memory="1GB", engine_threads=3)

    told = engine_settings(settings, "postgresql+asyncpg://user:password@localhost/db", Path("/scratch"))

    assert (told.concurrent_operations, told.memory_limit, told.threads) == (runs + 2, "1GB", 3)
