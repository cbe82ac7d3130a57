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


async def ensure_local_key(application: Application) -> str | None:
    """The key in the home folder, known to the database as the local tenant's ADMIN.

    None when the home has none and the tenant of a database that is shared has an ADMIN already: else each home that ever was would leave
    a key that nobody has.
    """
    tenant = await application.ensure_local_tenant()
    file = key_file(application.settings)
    if application.settings.database_url is not None and not file.exists():
        async with application.flow_services.unit_of_work(tenant.id) as tx:
            if await tx.api_keys.hold_admins():
                return None
    key = _kept(file)
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
