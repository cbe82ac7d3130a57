"""What a log line is about: fields that the edges bind, and that every line written within carries.

They travel with the context of the task, so no signature passes them on; a task that is started within inherits them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))


def bound_fields() -> Mapping[str, str]:
    return _fields.get()


def bind(**fields: object) -> None:
    """From here to the end of the innermost `binding`; None takes a field away."""
    merged = {**_fields.get(), **{name: str(value) for name, value in fields.items()}}
    _fields.set({name: value for name, value in merged.items() if fields.get(name, value) is not None})


@contextmanager
def binding(**fields: object) -> Iterator[None]:
    """Bind the fields for the block, beside those that are bound already."""
    before = _fields.get()
    bind(**fields)
    try:
        yield
    finally:
        # Not by a token: a generator may be closed in another context than it began in.
        _fields.set(before)
