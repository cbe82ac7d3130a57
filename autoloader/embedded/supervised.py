"""A server of ours, behind the small process that ends it when we end. See `supervisor`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoloader.embedded import supervisor


class Supervised:
    """At most one server at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: int | None = None

    @property
    def is_started(self) -> bool:
        """Until `stop`, also when the server has ended by itself."""
        return self._process is not None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        log: Path,
        log_limit_bytes: int,
        run_as: tuple[int, int] | None = None,
        inherited: Sequence[int] = (),
        remove: Sequence[Path] = (),
    ) -> None:
        """`run_as` is a user and a group; `inherited` descriptors are held until the server has gone, and `remove` is removed then."""
        theirs, self._control = os.pipe()
        uid, gid = run_as or (None, None)
        spec = {
            "command": list(command),
            "uid": uid,
            "gid": gid,
            "log": str(log),
            "log_limit_bytes": log_limit_bytes,
            "parent": os.getpid(),
            "control": theirs,
            "remove": [str(path) for path in remove],
        }
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own script, no shell
                [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(spec)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=dict(environment),
                pass_fds=(theirs, *inherited),
                start_new_session=True,  # Ctrl-C at the terminal is ours to handle, not the server's.
                cwd="/",
            )
        finally:
            os.close(theirs)

    def stop(self, patience_seconds: float) -> bool:
        """End the server, and return when the supervisor has ended. False when that had to be killed, which tells the server to end.

        Does nothing when none is started.
        """
        control, self._control = self._control, None
        if control is not None:
            # A byte, and not the closed pipe alone: a fork of ours may hold another copy of its end.
            with contextlib.suppress(BrokenPipeError):
                os.write(control, b".")
            os.close(control)
        process, self._process = self._process, None
        if process is None:
            return True
        try:
            process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True
