"""From a glob's text to its alternatives without braces, each a row of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_ALTERNATIVES = 256
MAX_TOKENS = 8_192
MAX_NESTED_BRACES = 16

STAR = "*"
ANY_RUN = "**"
SEPARATOR = "/"

Tokens = tuple[str, ...]
"""STAR, ANY_RUN, SEPARATOR, or else a regular expression for exactly one character that is not `/`."""

_NUMBER_RANGE = re.compile(r"\{-?\w+\.\.-?\w+(?:\.\.-?\w+)?\}")


def alternatives_of(pattern: str) -> list[Tokens]:
    """The pattern's alternatives, where ANY_RUN is always a whole segment. Raises `ValueError`."""
    parser = _Parser(pattern)
    written = [_merge_stars(tokens) for tokens in parser.sequence(depth=0)]
    whole: list[Tokens] = []
    for tokens in written:
        whole += _whole_segments(tokens)
        _check_size(len(whole), sum(map(len, whole)))
    for tokens in whole:
        _check_ends(tokens)
    return whole


class _Parser:
    """Reads a pattern from left to right, once."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def sequence(self, depth: int) -> list[Tokens]:
        """The alternatives up to the pattern's end or, inside braces, to the next comma or closing brace."""
        found: list[Tokens] = [()]
        while self._at < len(self._pattern):
            character = self._pattern[self._at]
            if depth and character in ",}":
                break
            options = self._braces(depth + 1) if character == "{" else [(self._token(character),)]
            _check_size(len(found) * len(options), _tokens_in(found) * len(options) + _tokens_in(options) * len(found))
            found = [head + tail for head in found for tail in options]
        return found

    def _braces(self, depth: int) -> list[Tokens]:
        start = self._at
        if depth > MAX_NESTED_BRACES:
            raise ValueError(f"has braces nested more than {MAX_NESTED_BRACES} deep")
        if _NUMBER_RANGE.match(self._pattern, start):
            raise ValueError("has a range in braces, such as {1..3}, which is not supported: write {1,2,3} or [1-3]")
        options: list[Tokens] = []
        while True:
            self._at += 1
            options += self.sequence(depth)
            if self._at == len(self._pattern):
                raise ValueError(f"has a '{{' without its '}}' at character {start + 1}")
            if self._pattern[self._at] == "}":
                self._at += 1
                return options

    def _token(self, character: str) -> str:
        """The token that begins here; moves on past it."""
        if character == "[":
            return self._set()
        if character in "]}":
            opening = "[" if character == "]" else "{"
            raise ValueError(f"has a '{character}' without its '{opening}' at character {self._at + 1}")
        if self._pattern.startswith(ANY_RUN, self._at):
            self._at += 2
            return ANY_RUN
        self._at += 1
        match character:
            case "*":
                return STAR
            case "?":
                return "[^/]"
            case "/":
                return SEPARATOR
        return re.escape(character)

    def _set(self) -> str:
        start = self._at
        negated = self._pattern[start + 1 : start + 2] in ("!", "^")
        first = start + 1 + negated
        end = self._pattern.find("]", first + 1)
        if end < 0:
            raise ValueError(f"has a '[' without its ']' at character {start + 1}")
        self._at = end + 1
        members = self._pattern[first:end]
        if "/" in members:
            raise ValueError(f"has a '/' in {self._pattern[start : end + 1]}: a set cannot hold it")
        return f"(?!/)[{'^' if negated else ''}{_members(members)}]"


def _members(text: str) -> str:
    """The inside of a regular expression's set."""
    found = []
    at = 0
    while at < len(text):
        low, high = text[at], text[at]
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            high = text[at + 2]
            if low > high:
                raise ValueError(f"has a backward range {low}-{high}: write {high}-{low}")
            at += 2
        found.append(re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}")
        at += 1
    return "".join(found)


def _merge_stars(tokens: Tokens) -> Tokens:
    """Neighbouring wildcards as the widest of them; braces bring them together."""
    merged: list[str] = []
    for token in tokens:
        if merged and token in (STAR, ANY_RUN) and merged[-1] in (STAR, ANY_RUN):
            merged[-1] = max(merged[-1], token)
        else:
            merged.append(token)
    return tuple(merged)


def _whole_segments(tokens: Tokens) -> list[Tokens]:
    """The same pattern with each ANY_RUN a whole segment: `a**b` is `a*b` (in one folder) or `a*/**/*b` (across folders)."""
    heads: list[Tokens] = [()]
    for number, token in enumerate(tokens):
        options: list[Tokens] = [(token,)]
        if token == ANY_RUN:
            opens = number == 0 or tokens[number - 1] == SEPARATOR
            ends = number == len(tokens) - 1
            closes = ends or tokens[number + 1] == SEPARATOR
            left: Tokens = () if opens else (STAR, SEPARATOR)
            right: Tokens = () if closes else (SEPARATOR, STAR)
            options = [(*left, ANY_RUN, *right)]
            if not opens and (ends or not closes):
                options.append((STAR,))
        _check_size(len(heads) * len(options), _tokens_in(heads) * len(options) + _tokens_in(options) * len(heads))
        heads = [head + tail for head in heads for tail in options]
    return heads


def _check_size(alternatives: int, tokens: int) -> None:
    if alternatives > MAX_ALTERNATIVES or tokens > MAX_TOKENS:
        raise ValueError(f"stands for too many alternatives (at most {MAX_ALTERNATIVES}, of {MAX_TOKENS} characters together)")


def _check_ends(tokens: Tokens) -> None:
    if not tokens:
        raise ValueError("has an alternative that is empty and so matches no file")
    if tokens[0] == SEPARATOR:
        raise ValueError("must not begin with '/': it is matched against the path relative to the source")
    if tokens[-1] == SEPARATOR:
        raise ValueError("must not end with '/', which matches no file; end it with '/**' for all files below a folder")


def _tokens_in(alternatives: Iterable[Tokens]) -> int:
    return sum(map(len, alternatives))
