"""Text from outside: PostgreSQL holds neither a NUL character nor what is no Unicode (a lone surrogate)."""

from __future__ import annotations

LONGEST_MESSAGE = 4_000


def unstorable(text: str) -> str | None:
    """What stands against storing `text`, for a person; None when nothing does."""
    if "\0" in text:
        return "must not contain a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be valid Unicode"
    return None


def readable(text: str, *, limit: int = LONGEST_MESSAGE) -> str:
    """`text` with what cannot be stored replaced, cut at `limit` characters: for messages, which may quote anything."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return cut.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
