"""Timing things in turn, so that a noisy minute falls on all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of each subject, by round."""

    seconds: Mapping[str, list[float]]

    def median(self, subject: str) -> float:
        return statistics.median(self.seconds[subject])

    def ratio(self, subject: str, to: str) -> float:
        """The median of the rounds' own ratios."""
        return statistics.median(a / b for a, b in zip(self.seconds[subject], self.seconds[to], strict=True))

    def row(self, subject: str, to: str) -> list[str]:
        spread = self.seconds[subject]
        return [subject, f"{self.median(subject):.3f}", f"{min(spread):.3f}", f"{max(spread):.3f}", f"{self.ratio(subject, to):.2f}"]


COLUMNS = ("", "median s", "min s", "max s", "ratio")


_Subjects = Mapping[str, Callable[[], Awaitable[None]]]


async def in_turn(subjects: _Subjects, rounds: int, *, before: _Subjects | None = None) -> Timings:
    """Each subject once a round; one round more, the first, is not counted. What goes `before` a subject is not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for round in range(rounds + 1):
        for name, subject in subjects.items():
            if before is not None:
                await before[name]()
            # A collection that falls into one subject's time, and not into another's, would be taken for a difference between them.
            gc.collect()
            began = time.perf_counter()
            await subject()
            if round:
                seconds[name].append(time.perf_counter() - began)
    return Timings(seconds)


class PeakMemory:
    """By how much this process's resident memory rises above its start while the block runs, in MB. Linux."""

    megabytes = 0.0

    def __enter__(self) -> PeakMemory:
        # 5 resets the peak to what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
        self._start = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.megabytes = max(0.0, _status("VmHWM") - self._start)


def _status(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
