"""Globs over paths relative to a source: `*`, `**`, `?`, `[a-z]`, `[!a]` and `{a,b}`, matched without catastrophes.

- `*` is any run of characters but `/`, `?` one of them; a leading dot is nothing special.
- `**` is any run of characters, across folders. As a whole segment it may be no folder at all: `a/**/b` matches `a/b`.
- `[a-z]` is one character of the set and `[!a-z]` (or `[^a-z]`) one outside it, never `/`; `]` stands first to be in it.
- `{a,b}` is one of the alternatives, which may hold anything above and further braces.
- Case matters. There is no escape: a special character is meant literally inside a set, as in `[*]`.

A good library (wcmatch 12) took 22 s to find that eight times `**/a/` and a `b` do not match 81 characters. Here each wildcard
commits itself to its first match, which is always a good one, since what stands between two wildcards of one kind has
a fixed length (in characters for `*`, in segments for `**`). The time is at worst the product of the two lengths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from domain.ledger.glob_parsing import ANY_RUN, SEPARATOR, STAR, Tokens, alternatives_of

T = TypeVar("T")

MAX_PATTERN_CHARACTERS = 1_024

_ANY_FOLDERS = "(?:[^/]*+/)*?"


def compile_glob(pattern: str) -> Callable[[str], bool]:
    """A function that says whether a path relative to the source matches the whole pattern.

    Raises `ValueError`, with a message for the pattern's author, when the pattern is malformed, could match no file, or is
    too large: longer than 1,024 characters, or with too many alternatives once its braces are expanded.
    """
    if not pattern:
        raise ValueError("must not be empty; leave it out to take every file")
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise ValueError(f"must not be longer than {MAX_PATTERN_CHARACTERS} characters")
    if "\0" in pattern:
        raise ValueError("must not contain a NUL character")
    fullmatch = re.compile("|".join(map(_expression, alternatives_of(pattern))), re.DOTALL).fullmatch
    return lambda path: fullmatch(path) is not None


def relative_path(source_path: str, object_path: str) -> str:
    """An object's path relative to its source's, which may be written with or without a last slash."""
    return object_path.removeprefix(source_path if source_path.endswith("/") else source_path + "/")


def _expression(tokens: Tokens) -> str:
    """The regular expression of one alternative."""
    first, *rest = _split(_split(tokens, SEPARATOR), (ANY_RUN,))
    if not rest:
        return "".join(map(_folder, first[:-1])) + _segment(first[-1])
    *middle, last = rest
    opening = "".join(map(_folder, first))
    between = "".join(f"(?>{_ANY_FOLDERS}{''.join(map(_folder, block))})" for block in middle if block)
    closing = _ANY_FOLDERS + "".join(map(_folder, last[:-1])) + _segment(last[-1]) if last else ".+"
    return opening + between + closing


def _folder(segment: Tokens) -> str:
    """A segment and the slash behind it. Where it ends is certain, so that there is nothing to go back for."""
    return f"(?>{_segment(segment)}/)"


def _segment(segment: Tokens) -> str:
    first, *rest = map("".join, _split(segment, STAR))
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>[^/]*?{run})" for run in middle) + "[^/]*" + last


def _split(items: Sequence[T], at: T) -> list[tuple[T, ...]]:
    """The runs of items between those equal to `at`; one more run than there are such items."""
    runs: list[list[T]] = [[]]
    for item in items:
        if item == at:
            runs.append([])
        else:
            runs[-1].append(item)
    return [tuple(run) for run in runs]
