"""Cron schedules in a time zone, across its clock changes (evaluated by cronsim, which follows Debian's cron)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from domain.ingestions.entities import Schedule

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def check_cron(cron: str) -> None:
    """Raise ValueError, with what is wrong, unless `cron` has five fields and fires at some time."""
    if len(cron) > 200 or len(cron.split()) != 5:
        raise ValueError("a cron expression has five fields: minute, hour, day of month, month, day of week")
    try:
        if next(CronSim(cron, _EPOCH), None) is None:
            raise ValueError("this cron expression never fires")
    except CronSimError as error:
        raise ValueError(f"not a cron expression: {error}") from error


def check_timezone(name: str) -> None:
    """Raise ValueError unless `name` is a time zone that this machine knows."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name!r}; use an IANA name such as Europe/Berlin") from error


def next_due(schedule: Schedule, after: datetime) -> datetime:
    """The first firing strictly after `after`, in UTC."""
    firings = CronSim(schedule.cron, after.astimezone(ZoneInfo(schedule.timezone)))
    # In the hour that clocks repeat, a firing may be found in its first pass although `after` is in the second.
    return next(firing for firing in (local.astimezone(UTC) for local in firings) if firing > after)


def firings_per_month(schedule: Schedule, *, after: datetime) -> float:
    """How often it fires in a month: the mean of the twelve calendar months after `after`'s, in its time zone.

    Day by day: a day that the expression names has the same firings as any other, except when the clock changes, and then
    they are counted one by one.
    """
    local = after.astimezone(ZoneInfo(schedule.timezone)).date()
    return _firings_per_month(schedule, (local.replace(day=1) + timedelta(days=32)).replace(day=1))


@lru_cache(maxsize=1_024)
def _firings_per_month(schedule: Schedule, first: date) -> float:
    """In the year from that first of a month; remembered, for it takes tens of milliseconds and many ingestions share schedules."""
    day = datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(schedule.timezone))
    end = day.replace(year=day.year + 1)
    total, ordinary = 0, None
    while day < end:
        following = (day + timedelta(days=1)).replace(hour=0, fold=0)
        if next(CronSim(schedule.cron, day - timedelta(seconds=1))) < following:
            if day.utcoffset() != following.utcoffset():
                total += _count_until(schedule.cron, day, following)
            else:
                ordinary = ordinary or _count_until(schedule.cron, day, following)
                total += ordinary
        day = following
    return total / 12


def _count_until(cron: str, start: datetime, end: datetime) -> int:
    return sum(1 for _ in takewhile(lambda moment: moment < end, CronSim(cron, start - timedelta(seconds=1))))
