"""One account's client of SQS, made on first use and kept while the process lives."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from typing import Any

import aioboto3
from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError

from integrations.object_store.s3_account import S3Account
from integrations.object_store.threads import run_in_threads

_OPTIONS: dict[str, Any] = {
    "connect_timeout": 3,
    # A request that waits for messages is answered within a second or so.
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "max_pool_connections": 32,
}


class SqsClients:
    """`urls` are what the service calls its queues, by name and by owner where that is another."""

    def __init__(self, account: S3Account, executor: Executor) -> None:
        self.account = account
        self.urls: dict[tuple[str, str | None], str] = {}
        self._executor = executor
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def get(self) -> Any:
        """The client. Raises botocore's errors when the account's configuration is not good."""
        async with self._opening:
            if self._client is None:
                region = await run_in_threads(self._executor, self.account.queue_region)
                session = AioSession()
                session.register_component("credential_provider", _Keys(self.account, self._executor))
                opened = aioboto3.Session(botocore_session=session, region_name=region).client(
                    "sqs", endpoint_url=self.account.queue_endpoint, config=Config(**_OPTIONS)
                )
                self._client = await self._stack.enter_async_context(opened)
            return self._client

    async def close(self) -> None:
        await self._stack.aclose()


class _Keys(AioCredentials):  # type: ignore[misc]  # botocore has no types
    """A botocore credential resolver, and the credentials that it gives: the account's keys as they are at each request."""

    def __init__(self, account: S3Account, executor: Executor) -> None:
        super().__init__("", "")
        self._account = account
        self._executor = executor

    async def load_credentials(self) -> _Keys:
        return self

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        # It may read files and ask a metadata service.
        keys = await run_in_threads(self._executor, self._account.keys)
        if keys.access_key_id is None:
            raise NoCredentialsError
        return ReadOnlyCredentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
