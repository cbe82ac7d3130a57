"""What is run until somebody asks it to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from autoloader.signals import run_stoppable


def test_what_is_returned_and_raised_comes_through() -> None:
    async def answer() -> int:
        assert threading.current_thread() is not threading.main_thread()
        return 42

    async def fail() -> None:
        raise LookupError("it is not there")

    assert run_stoppable(answer()) == 42
    with pytest.raises(LookupError, match="it is not there"):
        run_stoppable(fail())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_and_a_second_one_cancels_what_is_done_about_it(number: signal.Signals) -> None:
    seen = []
    before = signal.getsignal(number)

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            seen.append("closing")
            try:
                os.kill(os.getpid(), number)
                await asyncio.Event().wait()
            finally:
                seen.append("closed in a hurry")

    # The handlers are in place when the loop runs; the first of these waits for that.
    with pytest.raises(asyncio.CancelledError):
        run_stoppable(_after_a_moment(work))
    assert seen == ["closing", "closed in a hurry"]
    assert signal.getsignal(number) is before


async def _after_a_moment(work: object) -> None:
    while signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.default_int_handler):
        await asyncio.sleep(0)
    await work()  # type: ignore[operator]
