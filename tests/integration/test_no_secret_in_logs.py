"""Keys, tokens and passwords on every way through: none is in the log at DEBUG, in an answer, in a metric, or in a repr."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.application import background_work, credential, engine_settings, open_application
from autoloader.settings import CredentialSettings, Settings
from domain.api_keys import generate_key
from domain.errors import DomainError, UnavailableError
from domain.ingestions.entities import Source, SourceType
from domain.tenants import Grants
from integrations.object_store.stores import ConfiguredObjectStores
from tests.fixtures.api import Api, Client
from tests.fixtures.log_lines import LogLines

PASSWORD = "hunter-2-pass"
NOWHERE = f"postgresql+asyncpg://somebody:{PASSWORD}@127.0.0.1:1/nothing"
S3_SECRET = "s3cr3tK3yOfTheStore"
S3_SESSION = "s3ss10nOfTheStore"
CREDENTIAL = {
    "endpoint_url": "http://127.0.0.1:1",
    "region": "us-east-1",
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": S3_SECRET,
    "session_token": S3_SESSION,
}
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzb21lYm9keSJ9.c2lnbmF0dXJlLW9mLWl0"


def settings(home: Path) -> Settings:
    return Settings(
        home=home,
        database_url=NOWHERE,
        local_roots=(home,),
        credentials={"lab": CredentialSettings(**CREDENTIAL)},  # type: ignore[arg-type]
        metrics_token="scrapers-token-0123",
    )


async def test_refused_logins_leave_no_credential(api: Api, client: Client, log_lines: LogLines) -> None:
    wrong = generate_key()
    for given in (wrong, TOKEN, "al_not-a-key", client.key):
        await api.http.post("/graphql", json={"query": "{ viewer { tenant } }"}, headers={"authorization": f"Bearer {given}"})
        await api.http.post("/graphql", content=b"{", headers={"authorization": f"Bearer {given}"})
    for secret in (wrong, TOKEN, client.key):
        assert secret is not None
        assert secret not in log_lines.unredacted.getvalue()


async def test_a_key_that_is_handed_out_is_in_the_answer_alone(client: Client, log_lines: LogLines) -> None:
    document = "mutation ($i: CreateApiKeyInput!) { createApiKey(input: $i) { ... on CreatedApiKey { secret } ... on Error { message } } }"
    created = (await client.data(document, {"i": {"name": "one", "role": "VIEWER"}}))["createApiKey"]
    assert created["secret"].startswith("al_")
    assert created["secret"] not in log_lines.unredacted.getvalue()


async def test_a_database_that_cannot_be_reached_is_told_without_its_password(tmp_path: Path, log_lines: LogLines) -> None:
    async with open_application(settings(tmp_path), NOWHERE) as application:
        with pytest.raises(DomainError) as refused:
            await application.ready()
        page = (await application.metrics_page()).decode()
        async with background_work(application), asyncio.timeout(20):
            while not log_lines.by("autoloader.background"):
                await asyncio.sleep(0.01)
    assert "background work is interrupted" in log_lines.text.getvalue()
    for told in (str(refused.value), page, log_lines.unredacted.getvalue()):
        assert PASSWORD not in told
    assert "autoloader_database_up 0.0" in page


async def test_a_database_that_refuses_the_password_is_not_available(tmp_path: Path, database_url: str, log_lines: LogLines) -> None:
    refused = make_url(database_url).set(password=PASSWORD).render_as_string(hide_password=False)
    async with open_application(settings(tmp_path), refused) as application:
        with pytest.raises(UnavailableError, match="the database is not available"):
            await application.ensure_local_tenant()
    assert PASSWORD not in log_lines.unredacted.getvalue()


async def test_a_store_that_cannot_be_reached_is_told_without_its_secrets(log_lines: LogLines) -> None:
    stores = ConfiguredObjectStores({"lab": credential(CredentialSettings(**CREDENTIAL))})  # type: ignore[arg-type]
    source = Source(SourceType.S3, "s3://bucket/prefix/", credential="lab")
    with contextlib.closing(stores), pytest.raises(DomainError) as refused:
        async for _ in stores.open(source, Grants(credentials=("lab",))).list():
            pass
    for secret in (S3_SECRET, S3_SESSION):
        assert secret not in str(refused.value)
        assert secret not in log_lines.unredacted.getvalue()


async def test_an_unexpected_error_whose_words_hold_a_url_is_redacted(
    api: Api, client: Client, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError(f"cannot connect to {NOWHERE} with Bearer {TOKEN}")

    monkeypatch.setattr("persistence.reader.SqlReader.pages", broken)
    answer = await client.send("{ ingestions { nodes { id } } }")
    assert answer.errors[0]["extensions"]["code"] == "INTERNAL"
    for written in (log_lines.text.getvalue(), log_lines.json.getvalue()):
        assert "cannot connect to postgresql+asyncpg://somebody:[redacted]@127.0.0.1:1/nothing" in written
    for told in (str(answer.body), log_lines.text.getvalue(), log_lines.json.getvalue()):
        assert PASSWORD not in told
        assert TOKEN not in told


async def test_what_a_statement_was_sent_with_is_not_in_its_error(tenant_database: AsyncEngine, log_lines: LogLines) -> None:
    async with tenant_database.connect() as connection:
        with pytest.raises(DBAPIError, match="SQL parameters hidden") as failed:
            await connection.execute(text("SELECT CAST(:value AS integer) / 0"), {"value": 123456789})
    assert "123456789" not in str(failed.value)
    assert "123456789" not in log_lines.unredacted.getvalue()


def test_no_repr_shows_a_secret(tmp_path: Path, log_lines: LogLines) -> None:
    given = settings(tmp_path)
    shown = [given, given.credentials["lab"], credential(given.credentials["lab"]), engine_settings(given, NOWHERE, tmp_path)]
    for thing in shown:
        logging.getLogger("test").debug("%r and %s", thing, thing)
    written = log_lines.unredacted.getvalue()
    assert "AKIDEXAMPLE" in written
    for secret in (PASSWORD, S3_SECRET, S3_SESSION, "scrapers-token-0123"):
        assert secret not in written
    assert PASSWORD in dataclasses.astuple(shown[3])[0]  # type: ignore[call-overload]
