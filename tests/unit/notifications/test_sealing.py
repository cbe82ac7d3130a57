"""Secrets at rest, and the key that they are sealed with."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import ValidationError

from autoloader.settings import Settings
from autoloader.webhook_key import webhook_key
from domain.ports.webhooks import SealBrokenError
from integrations.notifications.sealing import AesSeal

KEY = bytes(range(32))


def test_what_is_sealed_is_told_to_its_owner_and_key_alone() -> None:
    owner, secret = uuid4(), os.urandom(32)
    sealed = AesSeal(KEY).seal(secret, owner=owner)
    assert secret not in sealed
    assert AesSeal(KEY).seal(secret, owner=owner) != sealed
    assert AesSeal(KEY).unseal(sealed, owner=owner) == secret
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for seal, whose, given in ((AesSeal(KEY), uuid4(), sealed), (AesSeal(bytes(32)), owner, sealed), (AesSeal(KEY), owner, changed)):
        with pytest.raises(SealBrokenError):
            seal.unseal(given, owner=whose)
    with pytest.raises(SealBrokenError):
        AesSeal(KEY).unseal(b"", owner=owner)


def test_the_key_is_the_settings(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, webhook_key=base64.b64encode(KEY).decode())
    assert webhook_key(settings) == KEY
    assert list(tmp_path.iterdir()) == []


def test_or_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    key = webhook_key(Settings(home=home))
    assert len(key) == 32
    assert webhook_key(Settings(home=home)) == key
    assert [path.name for path in home.iterdir()] == ["webhook.key"]
    assert (home / "webhook.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("key", ["", "short", base64.b64encode(KEY[:31]).decode(), base64.b64encode(KEY).decode() + "!"])
def test_a_key_of_another_length_is_refused_without_being_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValidationError, match="must be 32 bytes in base64"):
        Settings(home=tmp_path, webhook_key=key)


def test_networks_are_read_as_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLOADER_WEBHOOK_NETWORKS", "10.1.0.0/16, fd12::/64")
    assert [str(network) for network in Settings(home=tmp_path).webhook_networks] == ["10.1.0.0/16", "fd12::/64"]
    monkeypatch.setenv("AUTOLOADER_WEBHOOK_NETWORKS", "10.1.0.0/33")
    with pytest.raises(ValidationError):
        Settings(home=tmp_path)
