"""The log: one line each on standard error, with what the line is about, and without secrets.

A line's text may quote clients, files and drivers. So control characters are escaped, the lines of a trace are indented,
and what looks like a secret, or is one of the settings', is replaced.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sqlalchemy import make_url

from domain.log_fields import bound_fields

if TYPE_CHECKING:
    from autoloader.settings import Settings

REDACTED: Final = "[redacted]"
_LONGEST_MESSAGE = 10_000
_LONGEST_TRACE = 100_000
_TRACE_INDENT = "  | "

_QUIET: Final = {
    # Their lines hold headers, signatures, statements and parameters below these levels.
    "alembic": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "botocore": logging.INFO,
    "boto3": logging.INFO,
    "aiobotocore": logging.INFO,
    "aioboto3": logging.INFO,
    "urllib3": logging.INFO,
    "httpx": logging.WARNING,
    "httpcore": logging.INFO,
    "hpack": logging.INFO,
    "uvicorn.error": logging.INFO,
    "websockets": logging.INFO,
}

# Control characters, line separators, what turns the direction of text, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PLAIN = re.compile(r"[\w.:-]+", re.ASCII)
_LOOKS_SECRET = re.compile(
    r"""
      (?P<url>://[^\s/:@'"]*:)[^\s/'"]+(?=@)                       # a URL's password
    | (?P<key>\bal_[A-Za-z0-9]+_)[\w-]+                            # an API key, after its public prefix
    | (?P<signing>\bwhsec_)[A-Za-z0-9+/=]+                          # what webhooks are signed with
    | (?P<bearer>\b[Bb]earer\s+)[^\s'",]+
    | (?P<spark>\bsc://[^\s'"]*;token=)[^\s'";]+                 # a Spark Connect server's token
    | (?P<token>\beyJ)[\w-]{8,}(?:\.[\w-]+){1,2}                    # a JWT
    | (?P<named>\b(?:password|secret_access_key|session_token|secret-access-key|session-token)['"]?\s*[=:]\s*['"]?)[^\s'",;&]+
    """,
    re.VERBOSE,
)


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Redaction:
    """Replaces the given secrets, and what has a secret's form. The last line of defence: nobody should write one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        longest_first = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _LOOKS_SECRET.sub(lambda match: f"{match[match.lastgroup or 0]}{REDACTED}", text)


class _Formatter(logging.Formatter):
    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction

    def _message(self, record: logging.LogRecord) -> str:
        return _cut(self._redaction(record.getMessage()), _LONGEST_MESSAGE)

    def _trace(self, record: logging.LogRecord) -> str | None:
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            parts.append(record.stack_info)
        return _cut(self._redaction("\n".join(parts)), _LONGEST_TRACE) if parts else None

    def _fields(self) -> dict[str, str]:
        return {name: self._redaction(value) for name, value in bound_fields().items()}


class TextFormatter(_Formatter):
    """`time LEVEL logger message [field=value ...]`; a line that begins otherwise belongs to the trace above."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record)} {record.levelname} {record.name} {escaped(self._message(record))}"
        if fields := self._fields():
            line += f" [{' '.join(f'{name}={_value(value)}' for name, value in fields.items())}]"
        trace = self._trace(record)
        return line if trace is None else "\n".join([line, *(_TRACE_INDENT + escaped(part) for part in trace.split("\n"))])


class JsonFormatter(_Formatter):
    """One object a line, in ASCII: time, level, logger, message, the bound fields, and the trace where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._message(record),
            **self._fields(),
        }
        trace = self._trace(record)
        return json.dumps(entry if trace is None else entry | {"trace": trace})


class MessageFormatter(_Formatter):
    """The message alone, for whoever keeps the rest in fields of his own."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(self._message(record))


def escaped(text: str) -> str:
    """`text` on one line: nothing in it moves the cursor, begins a line or turns the direction."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def formatter(format: LogFormat, redaction: Redaction) -> logging.Formatter:
    return JsonFormatter(redaction) if format is LogFormat.JSON else TextFormatter(redaction)


def quieten() -> None:
    """Keep libraries from writing what they should not, whatever level is asked for."""
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)


def set_up_logging(settings: Settings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(settings.log_format, Redaction(secrets_of(settings))))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    quieten()


def secrets_of(settings: Settings) -> Iterable[str]:
    """What must not be shown of the settings, also as it stands in URLs."""
    given: list[str | None] = []
    if settings.database_url is not None:
        password = make_url(settings.database_url.get_secret_value()).password
        given.append(None if password is None else str(password))
    tokens = (
        settings.metrics_token,
        settings.webhook_key,
        settings.prefect_api_key,
        settings.prefect_auth_string,
        settings.spark_token,
    )
    given += [token.get_secret_value() for token in tokens if token is not None]
    for credential in settings.credentials.values():
        given += [secret.get_secret_value() for secret in (credential.secret_access_key, credential.session_token) if secret]
    given += [value for name, value in settings.catalog_properties.items() if re.search("secret|token|password|credential", name)]
    for secret in filter(None, given):
        yield from {secret, quote(secret, safe=""), quote(secret)}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} more characters)"


def _value(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
