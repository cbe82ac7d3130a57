"""However an array is cut into blocks, its elements are the same; what is wrong is told without reading on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from integrations.engines.embedded import json_arrays
from integrations.engines.embedded.content import FileContentError
from integrations.engines.embedded.json_arrays import array_elements_as_lines

blanks = st.sampled_from(["", "", " ", "\n", "\r\n", "\t ", " " * 150])
numbers = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(json.dumps),
    st.sampled_from(["0", "-0", "1.5E+10", "12e-7", "-0.25e300", "9" * 5000, "1." + "3" * 5000, "NaN", "-Infinity"]),
)
strings = st.builds(
    json.dumps,
    st.one_of(st.text(max_size=8), st.sampled_from(['"', "\\", "a\\", "\\u00", "\U0001f600", "é", "]", "{,}", "x" * 300])),
    ensure_ascii=st.booleans(),
)


def among(opening: str, closing: str, items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    padded = st.builds("{}{}{}".format, blanks, items, blanks)
    return st.builds("{}{}{}{}".format, st.just(opening), blanks, st.lists(padded, max_size=4).map(",".join), st.just(closing))


values = st.recursive(
    st.one_of(numbers, strings, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(among("[", "]", inner), among("{", "}", st.builds("{}{}:{}{}".format, strings, blanks, blanks, inner))),
    max_leaves=8,
)
arrays = st.builds("{}{}{}".format, blanks, among("[", "]", values), blanks)


def cut(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    edges = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return (data[start:end] for start, end in pairwise(edges))


def outcome(blocks: Iterator[bytes]) -> bytes | str:
    """The lines, or what is said to be wrong."""
    try:
        return b"".join(array_elements_as_lines(blocks))
    except FileContentError as error:
        return str(error)


@given(arrays, st.lists(st.integers(0), max_size=20))
def test_an_array_has_the_same_elements_however_it_is_cut(text: str, places: list[int]) -> None:
    whole = outcome(iter([text.encode()]))

    assert isinstance(whole, bytes)
    elements = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    assert [json.loads(line, parse_int=str, parse_float=str, parse_constant=str) for line in whole.splitlines()] == elements
    assert outcome(cut(text.encode(), places)) == whole
    assert outcome(iter([bytes([byte]) for byte in text.encode()])) == whole


@given(
    arrays,
    st.integers(0),
    st.one_of(st.just(""), st.sampled_from([*'[]{},:"\\-+.eEtn0', "\x01", " " * 150, "x" * 150])),
    st.lists(st.integers(0)),
)
@example("[1, 2]", 2, "12.", [3])
@example('["a"]', 3, "\\", [4])
def test_what_is_wrong_with_an_array_does_not_depend_on_the_cuts(text: str, place: int, put: str, places: list[int]) -> None:
    """One character is replaced, or left out, or something more is put there."""
    place %= len(text)
    broken = (text[:place] + put + text[place + 1 :]).encode() or b" "

    assert outcome(cut(broken, places)) == outcome(iter([broken]))


def test_plain_nonsense_is_told_from_its_first_block() -> None:
    blocks = iter([b"[ nope" + b"pe" * 100, b"never read"])

    assert outcome(blocks) == f"Row 1 is not valid JSON (Expecting value): no{'pe' * 39}..."
    assert next(blocks) == b"never read"


def test_a_large_element_is_parsed_a_few_times_and_not_once_for_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    class Counting(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> tuple[object, int]:
            parsed.append(len(s) - idx)
            return super().raw_decode(s, idx)

    monkeypatch.setattr(json_arrays, "_decoder", Counting())
    element = '{"list": [' + ", ".join(["1234567890"] * 100_000) + "]}"
    text = f"[{element}]".encode()

    lines = outcome(text[start : start + 1000] for start in range(0, len(text), 1000))

    assert lines == element.encode() + b"\n"
    assert sum(parsed) < 4 * len(text)


@pytest.mark.parametrize("block", [7, 1000])
def test_an_element_may_be_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(json_arrays, "LONGEST_LINE", 1 << 20)

    def told(characters: int, end: str = '"]') -> bytes | str:
        text = ('[1, "' + "x" * (characters - 2) + end).encode()
        return outcome(text[start : start + block * 1000] for start in range(0, len(text), block * 1000))

    assert told(1 << 20) == b'1\n"' + b"x" * ((1 << 20) - 2) + b'"\n'
    assert told((1 << 20) + 1) == "Row 2 is longer than 1 MB."
    assert told(5 << 20, end="") == "Row 2 is longer than 1 MB."
