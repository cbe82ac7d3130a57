"""CSV files as plain UTF-8 that DuckDB can read, with what a first look tells: the header, and how many records to expect."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from domain.ingestions.formats import Compression, CsvOptions
from integrations.engines.embedded.batch_files import LoadFile, excerpt
from integrations.engines.embedded.content import BLOCK_BYTES, FileContentError, compression_of, open_content, read_blocks

LONGEST_FIELD = 256 << 20
_OTHER_DELIMITERS = ",;\t|"
_MARKUP = re.compile(r"\s*(<!doctype|<html|<\?xml)", re.IGNORECASE)
_JSON = re.compile(r'\s*[\[{]\s*["{]')
_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_BLANK_LINE = re.compile(rb"\n(?=\r?\n)")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A CSV file after the first look. `path` holds it as UTF-8 without compression.

    `records` is the number of records after the header; None when it takes the careful reader to tell.
    """

    file: LoadFile
    path: Path
    names: tuple[str, ...]
    records: int | None


def look_at(file: LoadFile, options: CsvOptions, folder: Path, check: Callable[[], None]) -> CsvFile | None:
    """The first look; None when the file is empty. Raises `FileContentError`, and what `check` raises; it is called for each block."""
    path = _as_utf8(file, options, folder, check)
    counter = _RecordCounter(options)
    names: tuple[str, ...] | None = None
    for block in read_blocks(path, Compression.NONE):
        check()
        try:
            text = block.decode() if not block.isascii() else None
        except UnicodeDecodeError as error:
            line = block.count(b"\n", 0, error.start) + counter.lines + 1
            raise FileContentError(f"Line {line} is not UTF-8: set the format's encoding.") from None
        if names is None and not block.isspace():
            names = header_names(text or block.decode(), options)
        counter.add(block)
    if names is None:
        return None
    return CsvFile(file, path, names, counter.records(header=options.header))


def _as_utf8(file: LoadFile, options: CsvOptions, folder: Path, check: Callable[[], None]) -> Path:
    compression = compression_of(file.local, options.compression)
    if compression is Compression.NONE and options.encoding == "utf-8":
        return file.local
    path = folder / f"csv-{file.index}.csv"
    decoder = codecs.getincrementaldecoder(options.encoding)()
    with open_content(file.local, compression) as source, path.open("wb") as target:
        while data := source.read(BLOCK_BYTES):
            check()
            if options.encoding == "utf-8":
                target.write(data)
            else:
                target.write(_decoded(decoder, data, options.encoding).encode())
        if options.encoding != "utf-8":
            target.write(_decoded(decoder, b"", options.encoding, final=True).encode())
    return path


def _decoded(decoder: codecs.IncrementalDecoder, data: bytes, encoding: str, *, final: bool = False) -> str:
    try:
        return decoder.decode(data, final)
    except UnicodeError:
        raise FileContentError(f"The file is not {encoding}, or it is truncated.") from None


def csv_reader(lines: Iterator[str], options: CsvOptions) -> Iterator[list[str]]:
    """Python's reader for the options. It raises `csv.Error`."""
    doubled = lines if options.escape == options.quote else _doubling_quotes(lines, options)
    return csv.reader(doubled, delimiter=options.delimiter, quotechar=options.quote, doublequote=True, strict=True)


def _doubling_quotes(lines: Iterator[str], options: CsvOptions) -> Iterator[str]:
    """The lines with quotes inside of quotes doubled where they were escaped.

    An escape is one inside of quotes alone, and before a quote or another escape; elsewhere it is a character as others are. Python's
    reader would drop it there. Raises `csv.Error` for quotes that are doubled already.
    """
    quote, escape = options.quote, options.escape
    q, e = re.escape(quote), re.escape(escape)
    opening = re.compile(f"(?:^|{re.escape(options.delimiter)}){q}")
    inside = re.compile(f"(?:{e}[{q}{e}]|[^{q}{e}]+|{e})*")
    escaped = re.compile(f"{e}([{q}{e}])")
    texts = {quote: quote + quote, escape: escape}
    quoted = False
    for line in lines:
        pieces, position = [], 0
        while position < len(line):
            found = inside.match(line, position) if quoted else opening.search(line, position)
            end = found.end() if found else len(line)
            if not quoted:
                pieces.append(line[position:end])
                quoted = found is not None
            else:
                pieces.append(escaped.sub(lambda match: texts[match[1]], line[position:end]))
                if end < len(line):
                    pieces.append(quote)
                    end += 1
                    quoted = False
                    if line.startswith(quote, end):
                        raise csv.Error(f"{options.delimiter!r} expected after {quote!r}")
            position = end
        yield "".join(pieces)


def header_names(text: str, options: CsvOptions) -> tuple[str, ...]:
    """The column names that a file begins with. Raises `FileContentError`."""
    if _MARKUP.match(text):
        raise FileContentError(f"The file is HTML or XML, not CSV: {excerpt(text.strip())}")
    if _JSON.match(text):
        raise FileContentError(f"The file is JSON, not CSV: {excerpt(text.strip())}")
    try:
        first = next((fields for fields in csv_reader(iter(text.splitlines(keepends=True)), options) if fields), [])
    except csv.Error as error:
        raise FileContentError(f"Line 1 is not CSV: {error}: {excerpt(text)}") from None
    if not options.header:
        return tuple(f"column_{number}" for number in range(1, len(first) + 1))
    return tuple(name.strip() or f"column_{number}" for number, name in enumerate(first, 1))


def refuse_wrong_delimiter(names: tuple[str, ...], known: bool, options: CsvOptions) -> None:
    """Raise `FileContentError` for a header that another delimiter would split."""
    if len(names) != 1 or known or not options.header:
        return
    looks_like = max(_OTHER_DELIMITERS, key=names[0].count)
    if looks_like != options.delimiter and looks_like in names[0]:
        shown = _NAMES.get(options.delimiter, repr(options.delimiter))
        raise FileContentError(
            f"The header is one column, {excerpt(names[0])!r}: the delimiter seems to be {_NAMES[looks_like]}, but {shown} is configured."
        )


class _RecordCounter:
    """Counts records by their line ends outside of quotes.

    It is certain where every quote opens a field, closes one or is half of a doubled one. Of others readers think differently: DuckDB
    drops blanks around a field's quotes and goes on after a quote that opens again, where Python's reader keeps or refuses them.
    """

    def __init__(self, options: CsvOptions) -> None:
        self._quote = options.quote.encode()
        self._escape = options.escape.encode()
        self._doubled = options.escape == options.quote
        quote, delimiter = re.escape(self._quote), re.escape(options.delimiter.encode())
        # Before a quote that opens a field, and after one that closes it.
        opens = b"".join(rb"(?<!%b%b)" % (before, quote) for before in (delimiter, rb"\n", quote, rb"\A"))
        odd = rb"%b%b|%b(?!%b|\r|\n|%b|\Z)" % (quote, opens, quote, delimiter, quote)
        self._odd = re.compile(odd if self._doubled else odd + b"|" + quote + quote)
        self._quoted = False
        self._records = 0
        self._certain = True
        self._last = b"\n"
        self.lines = 0

    def add(self, block: bytes) -> None:
        self.lines += block.count(b"\n")
        if not self._doubled and self._escape in block:
            self._certain = False
        if b"\r" in block and not block.count(b"\r") == block.count(b"\r\n") == block.count(b"\n"):
            self._certain = False
        pieces = block.split(self._quote)
        outside = self._quote.join(pieces[self._quoted :: 2])
        if self._quoted and len(pieces) > 1:
            outside = self._quote + outside
        self._quoted ^= len(pieces) % 2 == 0
        if self._quoted and len(pieces) > 1:
            outside += self._quote
        self._records += outside.count(b"\n") - len(_BLANK_LINE.findall(outside))
        if len(pieces) > 1 and self._odd.search(outside):
            self._certain = False
        if self._last == b"\n" and block[:1] in {b"\n", b"\r"}:
            self._records -= 1
        self._last = block[-1:]

    def records(self, *, header: bool) -> int | None:
        """None when the count cannot be trusted."""
        if self._quoted or not self._certain:
            return None
        return self._records + (self._last != b"\n") - header
