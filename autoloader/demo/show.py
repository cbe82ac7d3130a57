"""How the story looks in a terminal, and in a log without one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

_STATUS_COLOURS = {"SUCCESS": "green", "PARTIAL": "yellow", "FAILED": "red", "NO_NEW_FILES": "cyan"}


def chapter(console: Console, title: str, why: str) -> None:
    console.print()
    console.rule(f"[bold]{title}[/]", align="left")
    console.print(why, highlight=False)


def operation(console: Console, document: str, variables: Mapping[str, Any]) -> None:
    """A GraphQL operation as it goes over the wire."""
    for text, language in ((document, "graphql"), (json.dumps(variables, indent=2), "json")):
        console.print(Syntax(text, language, theme="ansi_dark", background_color="default", word_wrap=True))


def runs(console: Console, ingestion: Mapping[str, Any]) -> None:
    shown = _table(f"{ingestion['name']}: runs", "status", "found", "loaded", "failed", "rows", "seconds", "message")
    for run in ingestion["runs"]["nodes"]:
        shown.add_row(
            _status(run["status"]),
            *(str(run[count]) for count in ("filesDiscovered", "filesProcessed", "filesFailed")),
            f"{run['rowsWritten']:,}",
            f"{run['durationSeconds'] or 0:.2f}",
            escape(run["errorMessage"] or ""),
        )
    console.print(shown)


def files(console: Console, title: str, ingestion: Mapping[str, Any]) -> None:
    shown = _table(f"{ingestion['name']}: {title}", "file", "status", "rows", "why")
    for file in ingestion["files"]["nodes"]:
        rows = "" if file["rows"] is None else f"{file['rows']:,}"
        shown.add_row(escape(Path(file["path"]).name), _status(file["status"]), rows, escape(file["errorMessage"] or ""))
    console.print(shown)


def schema_versions(console: Console, ingestion: Mapping[str, Any]) -> None:
    shown = _table(f"{ingestion['name']}: schema versions", "version", "columns", "added")
    for version in ingestion["schemaVersions"]["nodes"]:
        added = version["diff"]["added"] if version["version"] > 1 else []
        names = ", ".join(f"{column['name']} {column['type']}" for column in added)
        shown.add_row(str(version["version"]), str(len(version["columns"])), escape(names))
    console.print(shown)


def rows(console: Console, title: str, found: Sequence[Mapping[str, Any]]) -> None:
    shown = _table(title, *(found[0] if found else ()))
    for row in found:
        shown.add_row(*("" if value is None else escape(_value(value)) for value in row.values()))
    console.print(shown)


def _value(value: object) -> str:
    return Path(value).name if isinstance(value, str) and value.startswith("/") else str(value)


def _status(status: str) -> str:
    return f"[{_STATUS_COLOURS.get(status, 'default')}]{status}[/]"


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
