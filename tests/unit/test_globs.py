"""Globs mean what they say, refuse what they cannot mean, and never run away."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.ledger.glob_parsing import MAX_ALTERNATIVES, MAX_TOKENS, alternatives_of
from domain.ledger.globs import compile_glob, relative_path


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a.json", ["a.json"], ["b.json", "a_json", "x/a.json", "a.json/x", "A.json"]),
        ("*.json", ["a.json", ".json", ".hidden.json", "new\nline.json"], ["x/a.json", "a.jsonl"]),
        ("*", ["a"], ["a/b"]),
        ("?.csv", ["a.csv", "é.csv", "\n.csv"], ["ab.csv", "/.csv", ".csv"]),
        ("**", ["a", "a/b", "a/b/c"], []),
        ("**/*.json", ["a.json", "x/a.json", "x/y/a.json"], ["a.csv", "a.json/x"]),
        ("in/**", ["in/a", "in/x/a"], ["in", "in2/a", "x/in/a"]),
        ("in/**/a", ["in/a", "in/x/a", "in/x/y/a"], ["in/xa", "ina"]),
        ("**/x/**/y", ["x/y", "a/x/y", "x/b/y", "a/x/b/c/y", "x/x/y/y"], ["xy", "y", "x", "ax/y"]),
        ("**.csv", [".csv", "a.csv", "x/a.csv"], ["a.csv/x"]),
        ("a**", ["a", "ab", "ab/c", "a/b"], ["b", "ba"]),
        ("a**/c", ["a/c", "ab/c", "a/b/c", "ab/x/y/c"], ["ac", "a/bc"]),
        ("a**b", ["ab", "axb", "a/b", "ax/y/zb"], ["a", "b", "a/bc"]),
        ("***", ["a", "a/b"], []),
        ("day=[0-3][0-9]/*", ["day=01/a"], ["day=41/a", "day=1/a"]),
        ("[!a-c]x", ["dx", "-x"], ["ax", "bx", "/x", "x"]),
        ("[^a]x", ["bx"], ["ax"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[!]a]", ["b"], ["]", "a"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[-a]", ["a", "-"], ["b"]),
        ("[a^]", ["a", "^"], ["b"]),
        ("[*][?][{][}][,][[]", ["*?{},["], ["a?{},["]),
        ("[.-0]x", [".x", "0x"], ["/x"]),
        ("[\\d]", ["\\", "d"], ["1"]),
        ("[&&~|]", ["&", "~", "|"], ["a"]),
        ("{a,b}.json", ["a.json", "b.json"], ["c.json", "{a,b}.json"]),
        ("{a,b{c,d}}*", ["a1", "bc1", "bd1"], ["b1", "c1"]),
        ("x{,.gz}", ["x", "x.gz"], ["x.g"]),
        ("{a/*,**/b}", ["a/x", "b", "x/y/b"], ["a/x/y"]),
        ("{*,a}*", ["a", "b", ""], ["a/b"]),
        ("{a}", ["a"], ["{a}"]),
        ("a,b", ["a,b"], ["a"]),
        ("(a|b)+.$^", ["(a|b)+.$^"], ["a", "ab"]),
        ("a\\*", ["a\\", "a\\b"], ["a*"]),
        ("a//b", ["a//b"], ["a/b"]),
    ],
)
def test_matches_whole_paths(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = compile_glob(pattern)
    assert [path for path in matching if not matches(path)] == []
    assert [path for path in others if matches(path)] == []


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "empty"),
        ("a\0", "NUL"),
        ("x" * 1_025, "1024"),
        ("a[b", "'[' without its ']' at character 2"),
        ("[]", "'[' without"),
        ("[!]", "'[' without"),
        ("a]", "']' without its '['"),
        ("a{b", "'{' without its '}' at character 2"),
        ("{a,{b}", "'{' without its '}' at character 1"),
        ("a}", "'}' without its '{'"),
        ("{" * 1_024, "nested"),
        ("[z-a]", "write a-z"),
        ("[a/b]", "cannot hold"),
        ("{1..12}", "{1,2,3}"),
        ("/a", "relative to the source"),
        ("{,a}/b", "relative to the source"),
        ("a/", "end it with '/**'"),
        ("a/{b,}", "end it with '/**'"),
        ("{,a}", "empty"),
        ("{a,b}" * 9, "too many alternatives"),
        ("{a,b}" * 200, "too many alternatives"),
        ("{" + "a," * 300 + "a}", "too many alternatives"),
        ("{a,b,c,d,e,f,g,h,i}" + "x" * 950, "too many alternatives"),
        ("a**" * 9, "too many alternatives"),
    ],
)
def test_refuses_what_it_cannot_mean(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_glob(pattern)


@pytest.mark.parametrize(
    ("source", "path", "relative"),
    [
        ("s3://bucket", "s3://bucket/a/b", "a/b"),
        ("s3://bucket/in/", "s3://bucket/in/a", "a"),
        ("s3://bucket/in", "s3://bucket/in//a", "/a"),
        ("/", "/a", "a"),
        ("/data/in", "/data/in/a b", "a b"),
    ],
)
def test_a_path_is_relative_to_its_source(source: str, path: str, relative: str) -> None:
    assert relative_path(source, path) == relative


Part = tuple[str, object]
"""What a generated pattern is made of, and so known without parsing it."""

_LITERALS = "ab/."


def _parts(depth: int) -> st.SearchStrategy[list[Part]]:
    simple = st.one_of(
        st.tuples(st.just("literal"), st.sampled_from(_LITERALS)),
        st.tuples(st.just("star"), st.none()),
        st.tuples(st.just("globstar"), st.none()),
        st.tuples(st.just("one"), st.none()),
        st.tuples(st.just("set"), st.tuples(st.booleans(), st.sets(st.sampled_from("ab."), min_size=1))),
    )
    if depth == 0:
        return st.lists(simple, max_size=7).filter(_reads_as_meant)
    braces = st.tuples(st.just("braces"), st.lists(_parts(depth - 1), min_size=1, max_size=3))
    return st.lists(st.one_of(simple, simple, simple, braces), max_size=5).filter(_reads_as_meant)


def _reads_as_meant(parts: list[Part]) -> bool:
    """Two stars side by side would read as `**`."""
    return ("star", None) not in [part for before, part in pairwise(parts) if before == ("star", None)]


def _text(parts: list[Part]) -> str:
    return "".join(map(_text_of, parts))


def _text_of(part: Part) -> str:
    match part:
        case "set", (bool(negated), set(members)):
            return f"[{'!' if negated else ''}{''.join(sorted(members))}]"
        case "braces", list(options):
            return f"{{{','.join(map(_text, options))}}}"
        case "literal", str(character):
            return character
    return {"star": "*", "globstar": "**", "one": "?"}[part[0]]


def _expanded(parts: list[Part]) -> list[list[Part]]:
    """Without braces."""
    found: list[list[Part]] = [[]]
    for part in parts:
        match part:
            case "braces", list(options):
                tails = [tail for option in options for tail in _expanded(option)]
            case _:
                tails = [[part]]
        found = [head + tail for head in found for tail in tails]
    return found


def _means(parts: list[Part], path: str) -> bool:
    """The meaning of a pattern without braces, tried out in every way there is."""
    kinds = [part[0] for part in parts]
    runs = {number for number, kind in enumerate(kinds) if kind in ("star", "globstar")}

    def is_slash(number: int) -> bool:
        return 0 <= number < len(parts) and parts[number] == ("literal", "/")

    def opens(number: int) -> bool:
        return number == 0 or is_slash(number - 1)

    @cache
    def tail(number: int, at: int) -> bool:
        if number == len(parts):
            return at == len(path)
        here = path[at : at + 1]
        match parts[number]:
            case "literal", str(character):
                return here == character and tail(number + 1, at + 1)
            case "set", (bool(negated), set(members)):
                return here not in ("", "/") and (here in members) != negated and tail(number + 1, at + 1)
            case "one", None:
                return here not in ("", "/") and tail(number + 1, at + 1)
        end = number
        while end in runs:
            end += 1
        across = "globstar" in kinds[number:end]
        if across and opens(number) and is_slash(end) and (at == 0 or path[at - 1] == "/") and tail(end + 1, at):
            return True
        ends = range(at, len(path) + 1)
        return any((across or "/" not in path[at:stop]) and tail(end, stop) for stop in ends)

    return tail(0, 0)


_SLASH: Part = ("literal", "/")
_A: Part = ("literal", "a")
_GLOBSTAR: Part = ("globstar", None)
_STAR: Part = ("star", None)
_PATHS = st.text(alphabet="ab/.", min_size=1, max_size=12).filter(lambda path: path[0] != "/" and path[-1] != "/")


@given(_parts(depth=2), _PATHS)
@example([_GLOBSTAR, _SLASH, _A, _SLASH, _GLOBSTAR, _SLASH, _STAR], "b/a/a/b")
@example([_STAR, _A, _STAR, ("literal", "b")], "aab/ab")
def test_means_what_trying_everything_says(parts: list[Part], path: str) -> None:
    pattern = _text(parts)
    try:
        matches = compile_glob(pattern)
    except ValueError:
        return
    assert matches(path) == any(_means(option, path) for option in _expanded(parts)), pattern


@given(st.text(alphabet="ab/*?[]{},!-.\\0", max_size=40))
def test_any_text_is_a_pattern_or_is_refused(text: str) -> None:
    try:
        matches = compile_glob(text)
    except ValueError:
        return
    assert matches("a/b") in (True, False)


@given(st.text(alphabet="a*/{},", max_size=60))
def test_what_is_compiled_is_bounded(text: str) -> None:
    try:
        alternatives = alternatives_of(text)
    except ValueError:
        return
    assert len(alternatives) <= MAX_ALTERNATIVES
    assert sum(map(len, alternatives)) <= MAX_TOKENS


LONG = "a" * 1_023
DEEP = "a/" * 511 + "a"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 500 + "*b", LONG),
        ("*a*a*a*a*a*b", LONG),
        ("?*" * 500 + "b", LONG),
        ("[ab]*" * 200 + "b", LONG),
        ("**/a/" * 200 + "b", DEEP),
        ("**/*a*/" * 140 + "b", DEEP),
        ("**a" * 7 + "b", DEEP),
        ("**/" * 300 + "b", DEEP),
        ("{*a,*?}" * 8 + "b", LONG),
        ("{" + ",".join(["*a*a*b"] * 140) + "}", LONG),
    ],
)
def test_patterns_made_to_run_away_do_not(pattern: str, path: str) -> None:
    """With backtracking these take longer than the world has existed."""
    assert not compile_glob(pattern)(path)
