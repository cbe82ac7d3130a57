"""The local user's API key: made once, kept in a file that only its owner can read."""

from __future__ import annotations

from pathlib import Path

from autoloader.application import Application
from autoloader.kept_secret import kept_secret
from autoloader.settings import Settings
from domain.api_keys import digest_of, generate_key, prefix_of
from domain.tenants import Role


def key_file(settings: Settings) -> Path:
    return settings.home.absolute() / "local.key"


async def ensure_local_key(application: Application) -> str:
    """The key in the home folder, known to the database as the local tenant's ADMIN."""
    tenant = await application.ensure_local_tenant()
    key = _kept(key_file(application.settings))
    prefix = prefix_of(key)
    assert prefix is not None
    await application.directory.ensure_api_key(tenant.id, name="local", prefix=prefix, digest=digest_of(key), role=Role.ADMIN)
    return key


def _kept(path: Path) -> str:
    key = kept_secret(path, generate_key)
    if prefix_of(key) is None:
        path.unlink()
        key = kept_secret(path, generate_key)
    return key
