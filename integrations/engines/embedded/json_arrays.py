"""An array of objects as lines, one for each element, with the element's own text."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from integrations.engines.embedded.batch_files import excerpt
from integrations.engines.embedded.content import FileContentError

_BLANK = re.compile(r"[ \t\r\n]*")
_LINES_CHARACTERS = 4 << 20
_decoder = json.JSONDecoder()


def array_elements_as_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields blocks of whole lines. Raises `FileContentError` for anything but one whole array."""
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
            except ValueError as error:
                if self._more():
                    continue
                where = excerpt(self._text[self._position :])
                raise FileContentError(
                    f"Row {number} is not valid JSON, or the file is truncated ({getattr(error, 'msg', error)}): {where}"
                ) from None
            if end < len(self._text) or not self._more():
                element = self._text[self._position : end]
                self._position = end
                return element

    def _more(self) -> bool:
        if self._ended:
            return False
        try:
            data = next(self._blocks, None)
            self._ended = data is None
            added = self._decode(data or b"", self._ended)
        except UnicodeDecodeError:
            raise FileContentError("The file is not UTF-8.") from None
        self._text = self._text[self._position :] + added
        self._position = 0
        return not self._ended or bool(added)
