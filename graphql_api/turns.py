"""One operation's share of the event loop: however much it asks for, others get their turn in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Turns:
    """Of one request, all of whose tasks take their turns together, each of at most `seconds` (and what one task goes on for).

    A batch of a loader wakes all that wait for it at once: ten thousand objects, each of which goes on to resolve its fields, before the
    event loop looks at anything else. So whoever is woken asks whether the turn is over, and if so waits for the next. What they ask the
    loaders for then comes in as many batches as there were turns: an operation that takes long costs a statement more for each.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = seconds
        self._clock = clock
        self._turn = 0
        self._began = clock()

    async def take(self) -> None:
        """Return when it is this request's turn."""
        while self._clock() - self._began > self._seconds:
            turn = self._turn
            await asyncio.sleep(0)
            if turn == self._turn:
                # The first that is back begins the next turn for all.
                self._turn += 1
                self._began = self._clock()
