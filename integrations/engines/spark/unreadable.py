"""Which file it was that Spark could not read. Everything here blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyspark.errors import PySparkException

from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.spark.client import unavailable
from integrations.engines.spark.frames import SparkSource

_NAMED_ONE_BY_ONE = 8
_OF_FILES = (
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE",
    "PATH_NOT_FOUND",
    "FILE_NOT_EXIST",
    "MALFORMED_",
    "UNABLE_TO_INFER_SCHEMA",
    "CANNOT_MERGE",
)


def isolating(files: Sequence[LoadFile], source: SparkSource, look: Callable[[Sequence[LoadFile]], None]) -> None:
    """Look at the open files; those that Spark cannot read fail, and do not keep the others out.

    Spark stops at the first one. What its error names is left out; many are found by halving.
    """
    for _ in range(_NAMED_ONE_BY_ONE):
        present = [file for file in files if file.is_open]
        if not present:
            return
        try:
            look(present)
            return
        except PySparkException as error:
            index = source.named_in(str(error))
            named = [file for file in present if file.index == index]
            if not named and not _is_of_files(error):
                raise unavailable(error) from error
            if not named and len(present) > 1:
                break
            (named or present)[0].fail(reason(error))
    present = [file for file in files if file.is_open]
    if present:
        middle = (len(present) + 1) // 2
        isolating(present[:middle], source, look)
        isolating(present[middle:], source, look)


def reason(error: PySparkException) -> str:
    """What a person is told of a file; the rest may show paths and hosts."""
    condition = error.getCondition() or ""
    if "NOT_EXIST" in condition or "NOT_FOUND" in condition or "does not exist" in str(error):
        return "The file has gone since it was listed."
    words = str(error)
    for sign, told in {
        "timestamp with local time zone": "Spark does not read ORC's timestamps with a time zone",
        "EOFException": "it is cut short",
        "Unexpected end": "it is cut short",
        "incorrect data check": "its checksum is wrong",
        "CRC": "its checksum is wrong",
        "AccessDenied": "access is denied",
        "403": "access is denied",
        "magic number": "it is not of this format",
        "Not an Avro": "it is not of this format",
        "Malformed ORC": "it is not of this format",
    }.items():
        if sign in words:
            return f"The file could not be read: {told}."
    return f"The file could not be read ({condition or type(error).__name__})."


def _is_of_files(error: PySparkException) -> bool:
    condition = error.getCondition() or ""
    return condition.startswith(_OF_FILES) or any(sign in str(error) for sign in _OF_FILES)
