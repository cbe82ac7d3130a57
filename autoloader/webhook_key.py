"""The key that signing secrets are sealed with: from the settings, or made once and kept in the home folder."""

from __future__ import annotations

import base64
import os
from contextlib import suppress
from pathlib import Path

from autoloader.settings import Settings
from integrations.notifications.sealing import KEY_BYTES


def webhook_key(settings: Settings) -> bytes:
    if settings.webhook_key is not None:
        return base64.b64decode(settings.webhook_key.get_secret_value())
    return _kept(settings.home / "webhook.key")


def _kept(path: Path) -> bytes:
    """Written elsewhere first, so that whoever finds the file finds all of it; of two who come at once, the first one's stays."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
        with suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    return base64.b64decode(path.read_bytes())
