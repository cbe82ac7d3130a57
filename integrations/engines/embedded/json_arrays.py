"""An array of objects as lines, one for each element, with the element's own text."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from integrations.engines.embedded.batch_files import excerpt
from integrations.engines.embedded.content import LONGEST_LINE, FileContentError

_BLANK = re.compile(r"[ \t\r\n]*")
_LINES_CHARACTERS = 4 << 20
_END = 100
"""So many characters before the end of what was read, no word, number or escape is cut: what is wrong there is wrong."""
# Only the end of a value is looked for: what a number is worth, and whether it fits, is for whoever reads the row.
_decoder = json.JSONDecoder(parse_float=str, parse_int=str)


def array_elements_as_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields blocks of whole lines. Raises `FileContentError` for anything but one whole array.

    How the blocks are cut makes no difference. Of the text, what is left of a block and one element are held, and an element has
    at most `LONGEST_LINE` characters.
    """
    text = _Text(blocks)
    if text.next_character() != "[":
        raise FileContentError("The file is not a JSON array: it does not begin with [.")
    text.skip(1)
    lines: list[str] = []
    size, number = 0, 0
    closed = text.next_character() == "]"
    while not closed:
        number += 1
        # White space cannot stand inside a JSON string as it is, so line ends in an element are layout.
        element = text.element(number).replace("\n", " ").replace("\r", " ")
        lines.append(element)
        size += len(element)
        if size > _LINES_CHARACTERS:
            yield _encoded(lines)
            lines, size = [], 0
        match text.next_character():
            case ",":
                text.skip(1)
            case "]":
                closed = True
            case "":
                raise FileContentError(f"The file is truncated: the array is not closed after row {number}.")
            case character:
                raise FileContentError(f"The array is broken after row {number}: {character!r} stands where a comma should.")
    text.skip(1)
    if text.next_character():
        raise FileContentError("There is text after the end of the array.")
    if lines:
        yield _encoded(lines)


def _encoded(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


class _Text:
    """A window on decoded text that moves along with its reader."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text = ""
        self._position = 0
        self._ended = False

    def next_character(self) -> str:
        """The next character that is not white space, or nothing at the end."""
        while True:
            blank = _BLANK.match(self._text, self._position)
            self._position = blank.end() if blank else self._position
            if self._position < len(self._text) or not self._more():
                return self._text[self._position : self._position + 1]

    def skip(self, characters: int) -> None:
        self._position += characters

    def element(self, number: int) -> str:
        """The text of the JSON value that begins here."""
        self.next_character()
        while True:
            try:
                _, end = _decoder.raw_decode(self._text, self._position)
            except RecursionError:
                raise FileContentError(f"Row {number} is nested too deeply.") from None
            except json.JSONDecodeError as error:
                # Of a string without an end, the place is where it begins.
                cut = error.msg.startswith("Unterminated string") or self._is_near_the_end(error.pos)
                if cut and self._more_of(number):
                    continue
                wrong = "is not valid JSON, or the file is truncated" if cut else "is not valid JSON"
                raise FileContentError(
                    f"Row {number} {wrong} ({error.msg}): {excerpt(self._text[self._position : self._position + _END])}"
                ) from None
            if self._is_near_the_end(end) and self._more_of(number):
                # A number may go on.
                continue
            if end - self._position > LONGEST_LINE:
                raise _too_long(number)
            element = self._text[self._position : end]
            self._position = end
            return element

    def _is_near_the_end(self, position: int) -> bool:
        return position > len(self._text) - _END

    def _more_of(self, number: int) -> bool:
        """As `_more`, for an element that does not end in what was read; at least as much again, so that none is parsed often."""
        length = len(self._text) - self._position
        if length > LONGEST_LINE + _END:
            raise _too_long(number)
        return self._more(length)

    def _more(self, characters: int = 1) -> bool:
        """Read so many characters, or the rest; whether anything came. Then, and only then, the position is another."""
        pieces: list[str] = []
        size = 0
        try:
            while size < characters and not self._ended:
                data = next(self._blocks, None)
                self._ended = data is None
                pieces.append(self._decode(data or b"", self._ended))
                size += len(pieces[-1])
        except UnicodeDecodeError:
            raise FileContentError("The file is not UTF-8.") from None
        if size:
            self._text = "".join([self._text[self._position :], *pieces])
            self._position = 0
        return size > 0


def _too_long(number: int) -> FileContentError:
    return FileContentError(f"Row {number} is longer than {LONGEST_LINE >> 20} MB.")
