"""Nothing that is to be told is lost when the process dies, whenever it does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.application import open_application
from autoloader.settings import Settings
from domain.notifications.entities import DeliveryStatus, WebhookDelivery
from domain.notifications.service import WebhookCreate
from domain.tenants import Principal, Role
from tests.fixtures.receiver import Receiver, hangs

_START_SECONDS = 120
"""Longer than a worker takes to start on a busy machine."""


@asynccontextmanager
async def worker(database_url: str, home: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOLOADER_")}
    environment |= {"AUTOLOADER_DATABASE_URL": database_url, "AUTOLOADER_HOME": str(home), "AUTOLOADER_WEBHOOK_NETWORKS": "127.0.0.0/8"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "autoloader", "worker", env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_what_was_committed_is_sent_and_what_was_not_marked_is_sent_again(
    database_url: str, database: AsyncEngine, receiver: Receiver, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    settings = Settings(home=home, database_url=database_url, webhook_networks=(ip_network("127.0.0.0/8"),))
    async with open_application(settings, database_url) as application:
        principal = Principal(await application.ensure_local_tenant(), Role.ADMIN, name="test")
        webhooks = application.services.webhooks
        created = await webhooks.create(principal, WebhookCreate.parse({"url": receiver.url(), "events": ["RUN_FAILED"]}))
        committed = await webhooks.test(principal, created.webhook.id)

        async def stored() -> WebhookDelivery:
            (found,) = await application.services.reader(principal.tenant.id).by_ids(WebhookDelivery, [committed.id])
            assert found is not None
            return found

        # Committed, and not sent by a process that is gone: the next one sends it.
        receiver.answers.append(hangs)
        async with worker(database_url, home) as dying:
            first = await receiver.next(seconds=_START_SECONDS)
            # Sent, and not marked.
            dying.kill()
            await dying.wait()
        assert await stored() == committed
        async with database.begin() as connection:
            # As if the minute had passed for which the dead worker holds it.
            assert (await connection.execute(text("UPDATE outbox SET due_at = now() WHERE topic = 'DELIVERY'"))).rowcount == 1
        async with worker(database_url, home):
            second = await receiver.next(seconds=_START_SECONDS)
            async with asyncio.timeout(30):
                while (await stored()).status is DeliveryStatus.PENDING:
                    await asyncio.sleep(0.02)
        delivered = await stored()
    assert (delivered.status, delivered.attempts) == (DeliveryStatus.DELIVERED, 1)
    assert UUID(first.headers["webhook-id"]) == UUID(second.headers["webhook-id"]) == committed.event_id
    assert first.body == second.body
    assert receiver.received.empty()
