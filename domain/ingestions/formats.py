"""The options that each file format takes. An unknown option is an error, not a silence."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from domain.ingestions.entities import FormatType
from domain.text import unstorable


def _storable(text: str) -> str:
    if problem := unstorable(text):
        raise ValueError(problem)
    return text


def _within_a_line(character: str) -> str:
    if character in "\r\n":
        raise ValueError("must not be a line break")
    return character


SingleCharacter = Annotated[str, StringConstraints(min_length=1, max_length=1), AfterValidator(_storable), AfterValidator(_within_a_line)]
NullValue = Annotated[str, StringConstraints(max_length=1_000), AfterValidator(_storable)]


class Compression(StrEnum):
    """AUTO goes by the file's extension (`.gz`, `.zst`)."""

    AUTO = "AUTO"
    NONE = "NONE"
    GZIP = "GZIP"
    ZSTD = "ZSTD"


class JsonLayout(StrEnum):
    """LINES: one object a line; ARRAY: one array of objects; AUTO looks at the first byte that is not white space."""

    AUTO = "AUTO"
    LINES = "LINES"
    ARRAY = "ARRAY"


class FormatOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JsonOptions(FormatOptions):
    """JSON text in UTF-8, with or without a byte order mark."""

    layout: JsonLayout = JsonLayout.AUTO
    compression: Compression = Compression.AUTO


class CsvOptions(FormatOptions):
    """Delimited text. Without a header, columns are `column_1`, `column_2`, ...; `null_values` are read as null.

    `escape` stands inside of quotes, before a quote or before another `escape`; elsewhere it is a character as others are.
    """

    delimiter: SingleCharacter = ","
    quote: SingleCharacter = '"'
    escape: SingleCharacter = '"'
    header: bool = True
    null_values: tuple[NullValue, ...] = Field(default=("",), max_length=100)
    encoding: Literal["utf-8", "utf-16", "latin-1"] = "utf-8"
    compression: Compression = Compression.AUTO


class ParquetOptions(FormatOptions):
    """Parquet describes itself."""


class AvroOptions(FormatOptions):
    """Avro object container files describe themselves."""


class OrcOptions(FormatOptions):
    """ORC describes itself."""


OPTION_MODELS: dict[FormatType, type[FormatOptions]] = {
    FormatType.JSON: JsonOptions,
    FormatType.CSV: CsvOptions,
    FormatType.PARQUET: ParquetOptions,
    FormatType.AVRO: AvroOptions,
    FormatType.ORC: OrcOptions,
}
