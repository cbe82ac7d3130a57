"""The log's two formats: one line each, whole, and without secrets."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoloader.logs import REDACTED, JsonFormatter, Redaction, TextFormatter, secrets_of
from autoloader.settings import Settings
from domain.log_fields import bind, binding, bound_fields


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("a.logger", logging.WARNING, __file__, 1, message, args, exc_info)


def raised(message: str) -> Exception:
    try:
        raise RuntimeError(message)
    except RuntimeError as error:
        return error


def test_a_line_of_text_carries_what_is_bound() -> None:
    with binding(request_id="r-1", tenant="t", operation="two words]"):
        line = TextFormatter(Redaction()).format(record("it is %s", "so"))
    assert line.endswith(' WARNING a.logger it is so [request_id=r-1 tenant=t operation="two words]"]')
    assert TextFormatter(Redaction()).format(record("alone")).endswith(" WARNING a.logger alone")


def test_a_line_of_json_carries_what_is_bound_and_the_trace() -> None:
    with binding(request_id="r-1"):
        entry = json.loads(JsonFormatter(Redaction()).format(record("it failed", error=raised("why"))))
    assert entry.pop("time").endswith("Z")
    assert entry.pop("trace").splitlines()[-1] == "RuntimeError: why"
    assert entry == {"level": "WARNING", "logger": "a.logger", "message": "it failed", "request_id": "r-1"}


@pytest.mark.parametrize("text", ["a\n2026-01-01 00:00:00,000 INFO domain all well", "\r\x1b[2K", "\u2028\x85\x0b\u202e", "\ud800", "\0"])
def test_no_text_begins_a_line_moves_the_cursor_or_cannot_be_written(text: str) -> None:
    with binding(operation=text):
        lines = TextFormatter(Redaction()).format(record("%s", text, error=raised(text)))
        entry = JsonFormatter(Redaction()).format(record("%s", text, error=raised(text)))
    first, *trace = lines.encode().decode().split("\n")
    assert first.count(" WARNING a.logger ") == 1
    assert all(line.startswith("  | ") for line in trace)
    assert all(line.isprintable() for line in (first, *trace))
    assert entry.isascii()
    assert "\n" not in entry


@given(st.text())
def test_whatever_the_text_a_line_is_one_line(text: str) -> None:
    line = TextFormatter(Redaction()).format(record("%s", text))
    assert len(line.splitlines()) == 1


def test_a_message_is_cut_where_it_becomes_too_long() -> None:
    assert TextFormatter(Redaction()).format(record("x" * 20_000)).endswith("x… (10000 more characters)")


SECRETS = [
    (f"the key al_0123456789ab_{'x' * 43} is unknown", f"the key al_0123456789ab_{REDACTED} is unknown"),
    ("Authorization: Bearer abc.def", f"Authorization: Bearer {REDACTED}"),
    ("token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln!", f"token eyJ{REDACTED}!"),
    ("at postgresql+asyncpg://me:p%40ss@db:5432/x", f"at postgresql+asyncpg://me:{REDACTED}@db:5432/x"),
    ("at sc://spark:15002/;use_ssl=true;token=abc-1;user_id=me", f"at sc://spark:15002/;use_ssl=true;token={REDACTED};user_id=me"),
    ("dsn host=db password=hunter2 user=me", f"dsn host=db password={REDACTED} user=me"),
    ("{'secret_access_key': 'abc/+d'}", f"{{'secret_access_key': '{REDACTED}'}}"),
]


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_what_looks_like_a_secret_is_replaced(text: str, shown: str) -> None:
    assert Redaction()(text) == shown


@pytest.mark.parametrize("text", ["https://example.com:443/a@b", "the password is asked for", "al_prefix", "s3://bucket/key:with@signs"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redaction()(text) == text


def test_the_settings_secrets_are_replaced_wherever_they_stand() -> None:
    settings = Settings(
        database_url="postgresql+asyncpg://me:p%40ss@db/x",
        credentials={"lab": {"access_key_id": "AKIA", "secret_access_key": "s3/cr3t", "session_token": "sess10n"}},
        catalog_properties={"s3.endpoint": "http://minio", "s3.secret-access-key": "cat4log"},
        metrics_token="metrics-token-0123",
        spark_token="spark-t0ken",
    )
    redaction = Redaction(secrets_of(settings))
    for secret in ("p@ss", "p%40ss", "s3/cr3t", "s3%2Fcr3t", "sess10n", "cat4log", "metrics-token-0123", "spark-t0ken"):
        assert redaction(f"<{secret}>") == f"<{REDACTED}>", secret
    assert redaction("AKIA http://minio db me") == "AKIA http://minio db me"
    assert not any(secret in repr(settings) for secret in ("p%40ss", "s3/cr3t", "sess10n", "metrics-token-0123"))


def test_a_trace_is_redacted_too() -> None:
    error = raised("postgresql://me:hunter2@db/x")
    assert "hunter2" not in TextFormatter(Redaction()).format(record("failed", error=error))
    assert "hunter2" not in JsonFormatter(Redaction()).format(record("failed", error=error))


def test_fields_end_with_their_block_and_none_takes_one_away() -> None:
    with binding(tenant="t", run_id="r"):
        with binding(run_id=None):
            bind(operation="o")
            assert bound_fields() == {"tenant": "t", "operation": "o"}
        assert bound_fields() == {"tenant": "t", "run_id": "r"}
    assert bound_fields() == {}


def test_a_command_that_breaks_shows_no_local_variables() -> None:
    from autoloader.cli import app

    assert app.pretty_exceptions_show_locals is False
