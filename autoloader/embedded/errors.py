"""What goes wrong with the components that Autoloader runs itself."""

from __future__ import annotations


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be had. The message says why and what to do about it.

    `log_tail` is the last lines of the server's log, oldest first; empty when the server was not started.
    """

    def __init__(self, message: str, log_tail: tuple[str, ...] = ()) -> None:
        self.log_tail = log_tail
        super().__init__("\n  ".join([message, *log_tail]))


class EmbeddedPostgresInUseError(EmbeddedPostgresError):
    """Another process has this cluster open; `pid` is that process."""

    def __init__(self, message: str, pid: int) -> None:
        self.pid = pid
        super().__init__(message)
