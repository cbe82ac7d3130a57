"""Which of a source's files are meant, and by which rule one is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.ingestions.entities import Source
from domain.ledger.globs import compile_glob, relative_path
from domain.ports.object_store import StoredObject


@dataclass(frozen=True, slots=True)
class SourceFilter:
    """`rule` says for a person what passes; `passes_at`, where time is all that is missing, when an object will."""

    rule: str
    passes: Callable[[StoredObject], bool]
    passes_at: Callable[[StoredObject], datetime] | None = None


def source_filters(source: Source, *, now: datetime, since: datetime | None = None) -> Sequence[SourceFilter]:
    """The filters that a source has, and no others; a file is meant when it passes all of them."""
    filters = []
    bounds = [bound for bound in (source.modified_after, since) if bound is not None]
    if bounds:
        after = max(bounds)
        filters.append(SourceFilter(f"modified after {after.isoformat()}", lambda object: object.modified_at > after))
    if source.min_age_seconds:
        age = timedelta(seconds=source.min_age_seconds)
        until = now - age
        rule = f"at least {source.min_age_seconds} seconds old, for a younger file may still be being written"
        filters.append(SourceFilter(rule, lambda object: object.modified_at <= until, lambda object: _later(object.modified_at, age)))
    if source.glob is not None:
        matches = compile_glob(source.glob)
        filters.append(SourceFilter(f"a path that matches {source.glob}", lambda object: matches(relative_path(source.path, object.path))))
    return filters


def _later(moment: datetime, by: timedelta) -> datetime:
    """A store may say any moment, the last one of all too."""
    return moment + by if datetime.max.replace(tzinfo=moment.tzinfo) - moment > by else moment
