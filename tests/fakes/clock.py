"""Time that stands still until a test moves it."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.factories import NOW


class FakeClock:
    """`tick` is how far each reading moves it on: a database's clock never shows the same moment twice."""

    def __init__(self, now: datetime = NOW, *, tick: timedelta = timedelta(0)) -> None:
        self._now = now
        self._tick = tick

    def now(self) -> datetime:
        self._now += self._tick
        return self._now

    def advance(self, *, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def set(self, now: datetime) -> None:
        self._now = now
