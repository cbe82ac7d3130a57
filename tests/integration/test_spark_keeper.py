"""The process between us and a Spark server, with something smaller in the server's place."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoloader.spark import keeper

# Tells its pid and that of a child in its group, then waits.
SERVER = ["/bin/sh", "-c", "sleep 1000 & echo $$ $!; wait"]
DEAF = ["/bin/sh", "-c", "trap '' TERM; echo $$ $$; while :; do sleep 0.1; done"]


@pytest.fixture(params=[SERVER], ids=["server"])
def kept(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    command = [sys.executable, "-I", "-S", str(Path(keeper.__file__)), *request.param]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdin is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    yield process, pids
    process.stdin.close()
    process.stdout.close()
    process.wait(timeout=20)
    for pid in pids:
        _await_end(pid)


def test_the_server_and_its_children_end_when_their_owner_does(kept: tuple[subprocess.Popen[bytes], list[int]]) -> None:
    process, pids = kept
    assert process.stdin is not None

    process.stdin.close()

    process.wait(timeout=20)
    for pid in pids:
        _await_end(pid)


@pytest.mark.parametrize("kept", [DEAF], indirect=True, ids=["deaf"])
def test_a_server_that_does_not_hear_is_killed(kept: tuple[subprocess.Popen[bytes], list[int]]) -> None:
    process, pids = kept
    assert process.stdin is not None

    process.stdin.close()

    process.wait(timeout=20)
    _await_end(pids[0])


def test_signals_for_the_terminal_do_not_reach_it(kept: tuple[subprocess.Popen[bytes], list[int]]) -> None:
    process, pids = kept

    os.killpg(process.pid, signal.SIGINT)

    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.2)
    assert os.getpgid(pids[0]) == pids[0] != process.pid


def test_the_server_ends_when_the_keeper_is_killed(kept: tuple[subprocess.Popen[bytes], list[int]]) -> None:
    process, pids = kept

    process.kill()

    _await_end(pids[0])
    os.kill(pids[1], signal.SIGKILL)


def test_the_keeper_ends_with_its_server(kept: tuple[subprocess.Popen[bytes], list[int]]) -> None:
    process, pids = kept

    os.kill(pids[0], signal.SIGKILL)

    process.wait(timeout=20)
    _await_end(pids[1])


def _await_end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([handle], [], [], 20)
        assert ready, f"process {pid} goes on"
    finally:
        os.close(handle)
