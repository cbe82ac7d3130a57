"""The identity provider in the environment."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
import pytest

from autoloader.settings import OidcSettings, Settings
from domain.tenants import Role
from integrations.identity.provider import Provider

GOOD = {"AUTOLOADER_OIDC__ISSUER": "https://login.test", "AUTOLOADER_OIDC__AUDIENCE": "autoloader"}


def read(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> OidcSettings | None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings().oidc


def test_without_variables_there_is_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, {}) is None


def test_issuer_and_audience_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, GOOD)
    assert settings is not None
    roles = {"VIEWER": Role.VIEWER, "OPERATOR": Role.OPERATOR, "ADMIN": Role.ADMIN}
    assert Provider(**dict(settings)) == Provider("https://login.test", "autoloader", None, "tenant", "roles", roles)


def test_everything_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"JWKS_URL": "http://127.0.0.1/keys", "TENANT_CLAIM": "t", "ROLE_CLAIM": "a.b", "ROLES": '{"boss": "ADMIN"}'}
    settings = read(monkeypatch, GOOD | {f"AUTOLOADER_OIDC__{name}": value for name, value in more.items()})
    assert settings is not None
    expected = Provider("https://login.test", "autoloader", "http://127.0.0.1/keys", "t", "a.b", {"boss": Role.ADMIN})
    assert Provider(**dict(settings)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"AUTOLOADER_OIDC__ISSUER": "http://login.test"},
        {"AUTOLOADER_OIDC__JWKS_URL": "http://login.test/keys"},
        {"AUTOLOADER_OIDC__AUDIENCE": ""},
        {"AUTOLOADER_OIDC__ROLES": '{"boss": "ROOT"}'},
        {"AUTOLOADER_OIDC__SECRET": "x"},
    ],
)
def test_what_cannot_be_trusted_is_refused(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]) -> None:
    with pytest.raises(pydantic.ValidationError):
        read(monkeypatch, GOOD | changes)
