"""The key that signing secrets are sealed with: from the settings, or made once and kept in the home folder."""

from __future__ import annotations

import base64
import os

from autoloader.kept_secret import kept_secret
from autoloader.settings import Settings
from integrations.notifications.sealing import KEY_BYTES


def webhook_key(settings: Settings) -> bytes:
    if settings.webhook_key is not None:
        return base64.b64decode(settings.webhook_key.get_secret_value())
    kept = kept_secret(settings.home / "webhook.key", lambda: base64.b64encode(os.urandom(KEY_BYTES)).decode())
    return base64.b64decode(kept)
