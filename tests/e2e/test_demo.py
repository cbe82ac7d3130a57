"""The demo, on a few of its days: the main job as a person sees it."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from autoloader.demo import feeds
from autoloader.demo.errors import DemoError
from autoloader.demo.flights import Day, Totals, totals
from autoloader.demo.place import home_of
from autoloader.demo.story import tell
from autoloader.embedded.cluster import ClusterFolder

_DAYS = 12


def test_the_command_does_the_main_job_and_leaves_nothing(tmp_path: Path) -> None:
    # What the user has configured for another stack must not draw the demo into it.
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "COLUMNS": "160",
        "AUTOLOADER_DATABASE_URL": "postgresql+asyncpg://nobody@127.0.0.1:1/none",
    }
    command = [str(Path(sys.executable).with_name("autoloader")), "demo", "--days", str(_DAYS)]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"All 70 checks hold\. \d+\.\d s in all; everything is cleaned up\.", done.stdout)
    for run in ("SUCCESS        2 of 2 files", "PARTIAL        4 of 4 files", "NO_NEW_FILES   0 of 0 files"):
        assert run in done.stdout
    assert "ends in the middle of a row" in done.stdout
    assert "The file holds no JSON object. Line 1: it is not valid JSON" in done.stdout
    assert re.search(r"2 +20 +carrier_name string", done.stdout)
    assert re.search(r"both: rows +│ +(\d+,\d+) │ +\1 │ equal", done.stdout.rpartition("In the end")[2])
    assert list(tmp_path.iterdir()) == []


async def test_a_table_that_differs_from_the_source_fails_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def one_flight_more(days: list[Day]) -> Totals:
        true = totals(days)
        first = min(true.by_day)
        return Totals(true.by_day | {first: true.by_day[first] + 1}, true.miles, true.minutes_in_the_air)

    monkeypatch.setattr(feeds, "totals", one_flight_more)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output = io.StringIO()

    with pytest.raises(DemoError, match=r"(?s)checks do not hold:.*After the first wave, by_csv: flights by day: expected .*, found "):
        await tell(Console(file=output, width=160), days=_DAYS)

    [kept] = tmp_path.iterdir()
    assert f"What the demo has made is kept in {kept}" in output.getvalue()
    assert (kept / "landing" / "csv" / "2013-01-02.csv").exists()
    # What the test keeps no longer: for root the cluster may lie elsewhere.
    ClusterFolder(home_of(kept) / "postgres").remove()
