"""What an ingestion in STREAMING mode can be, and what cannot be done to it: what cannot be is refused, and not passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from domain.errors import FieldError, UnsupportedError, ValidationError
from domain.ingestions.entities import (
    BadRowPolicy,
    ChangedFilePolicy,
    DiscoveryMode,
    EngineType,
    Execution,
    ExecutionMode,
    FormatSpec,
    FormatType,
    Ingestion,
    Policies,
    SchemaEvolution,
    Source,
)
from domain.ingestions.formats import Compression, JsonLayout, JsonOptions

_EVOLUTIONS = (SchemaEvolution.ADD_NEW_COLUMNS, SchemaEvolution.RESCUE, SchemaEvolution.IGNORE)
_ACROSS_FOLDERS = "**"
_BRACES = re.compile(r"\{[^}]*[/{]")


@dataclass(frozen=True, slots=True)
class StreamGlob:
    """A glob as a stream of files can follow it: names in any folder below the source, or paths at a fixed depth."""

    pattern: str
    any_folder: bool


def stream_glob(glob: str) -> StreamGlob | None:
    """None for a glob that no stream of files can follow."""
    pattern = glob.removeprefix("**/")
    any_folder = pattern != glob
    if _ACROSS_FOLDERS in pattern or (any_folder and "/" in pattern) or "\\" in pattern or _BRACES.search(pattern):
        return None
    return StreamGlob(pattern, any_folder)


def check_streaming(source: Source, format: FormatSpec, policies: Policies, execution: Execution) -> None:
    """Raise `ValidationError` for what STREAMING mode cannot do; paths as in `IngestionCreate`. Other modes pass."""
    if execution.mode is ExecutionMode.STREAMING:
        problems = [
            FieldError(tuple(path.split(".")), f"in STREAMING mode, {message}") for path, message in _problems(source, format, policies)
        ]
        if execution.engine is not EngineType.SPARK:
            problems.insert(0, FieldError(("execution", "engine"), "STREAMING mode needs the SPARK engine"))
        if problems:
            raise ValidationError(problems)


def refuse_streaming(ingestion: Ingestion, what: str) -> None:
    """Raise `UnsupportedError` when the ingestion is in STREAMING mode."""
    if ingestion.execution.mode is ExecutionMode.STREAMING:
        raise UnsupportedError(f"{what} in STREAMING mode: the checkpoint decides which files are loaded, and knows all that it has seen")


def _problems(source: Source, format: FormatSpec, policies: Policies) -> Iterator[tuple[str, str]]:
    yield from _of_source(source)
    yield from _of_format(format)
    yield from _of_policies(policies)


def _of_source(source: Source) -> Iterator[tuple[str, str]]:
    if source.glob is not None and stream_glob(source.glob) is None:
        yield "source.glob", "'**' may only stand for all folders above a name ('**/*.json'); braces hold no folders, and there is no '\\'"
    if source.modified_after is not None:
        yield "source.modified_after", "files cannot be left out by their age"
    if source.min_age_seconds:
        yield "source.min_age_seconds", "a file is loaded as soon as it is seen: move files in when they are whole"
    if source.discovery is not DiscoveryMode.LISTING:
        yield "source.discovery", "the source is listed: LISTING"


def _of_format(format: FormatSpec) -> Iterator[tuple[str, str]]:
    if format.type is not FormatType.JSON:
        yield "format.type", f"JSON can be loaded, and {format.type} cannot yet"
        return
    options = JsonOptions.model_validate(dict(format.options))
    if options.layout is JsonLayout.AUTO:
        yield "format.options.layout", "the layout has to be said: LINES or ARRAY"
    if options.compression is not Compression.AUTO:
        yield "format.options.compression", "a file's name tells how it is compressed: AUTO"


def _of_policies(policies: Policies) -> Iterator[tuple[str, str]]:
    if policies.bad_rows is not BadRowPolicy.RESCUE:
        yield "policies.bad_rows", f"bad rows can only be kept, raw: RESCUE, and not {policies.bad_rows}"
    if policies.changed_files is not ChangedFilePolicy.IGNORE:
        yield "policies.changed_files", f"a path is loaded once: IGNORE, and not {policies.changed_files}"
    if policies.schema_evolution not in _EVOLUTIONS:
        yield "policies.schema_evolution", f"{policies.schema_evolution} cannot be done; {', '.join(_EVOLUTIONS)} can"
    for name in ("max_files_per_run", "max_bytes_per_run"):
        if getattr(policies, name) is not None:
            yield f"policies.{name}", "a run loads all that has landed"
