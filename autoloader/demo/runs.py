"""Runs, from the mutation that asks for one to its end, with a progress bar each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from autoloader.demo.api import RUN, RUN_INGESTION, Api
from autoloader.demo.feeds import Feed

_POLL_SECONDS = 0.05


async def run_all(console: Console, api: Api, feeds: Sequence[Feed]) -> list[dict[str, Any]]:
    """Run the feeds' ingestions at the same time; the runs as they ended, in the feeds' order."""
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description:<16}"),
        BarColumn(),
        TextColumn("{task.fields[says]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = [progress.add_task(feed.table, total=1.0, says="queued") for feed in feeds]
        return list(await asyncio.gather(*(_run(api, feed, progress, bar) for feed, bar in zip(feeds, bars, strict=True))))


async def _run(api: Api, feed: Feed, progress: Progress, bar: TaskID) -> dict[str, Any]:
    queued = await api.send(RUN_INGESTION, input={"ingestionId": feed.id})
    while True:
        run: dict[str, Any] = await api.send(RUN, id=queued["id"])
        progress.update(bar, completed=run["progress"], says=_says(run))
        if run["endedAt"] is not None:
            return run
        await asyncio.sleep(_POLL_SECONDS)


def _says(run: dict[str, Any]) -> str:
    settled = run["filesProcessed"] + run["filesFailed"] + run["filesSkipped"]
    return f"{run['status']:<12} {settled:>3} of {run['filesDiscovered']} files, {run['rowsWritten']:>7,} rows"
