"""Queues of notifications in SQS, or in what speaks its protocol."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from domain.ports.event_queue import LONGEST_POSTPONEMENT_SECONDS, RECEIVED_AT_ONCE, QueueMessage, QueueState
from integrations.object_store.s3_errors import S3Names, source_unavailable
from integrations.object_store.sqs_clients import SqsClients

log = logging.getLogger(__name__)

_IN_ONE_REQUEST = 10
"""SQS takes and gives so many messages in a request."""
_HIDDEN_SECONDS = 120
_WAIT_SECONDS = 1
"""Above 0 SQS asks all of its servers, and an empty answer means that the queue is empty."""
_NUMBERS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")


class SqsQueue:
    """The queue of a name, at the service that an account's clients lead to. The URL that the service gives for it is told to that
    service and to no other: requests go where the client was made for."""

    def __init__(self, name: str, clients: SqsClients) -> None:
        self._name = name
        self._clients = clients
        self._names = S3Names(name, clients.account.name, clients.account.queue_endpoint, "queue")

    async def state(self) -> QueueState:
        with self._failures_named():
            client = await self._clients.get()
            told = await self._attributes(client, self._name, None, "QueueArn", "RedrivePolicy", *_NUMBERS)
            waiting, *hidden = (int(told.get(number, 0)) for number in _NUMBERS)
            target = _dead_letter_target(told.get("RedrivePolicy"))
            letters = None if target is None else await self._dead_letters(client, target)
        id = told["QueueArn"] if self._names.endpoint is None else f"{self._names.endpoint} {told['QueueArn']}"
        return QueueState(id, waiting, sum(hidden), redrives=target is not None, dead_letters=letters)

    async def receive(self) -> Sequence[QueueMessage]:
        with self._failures_named():
            client = await self._clients.get()
            url = await self._url(client, self._name)
            messages = await self._received(client, url, wait_seconds=_WAIT_SECONDS)
            if len(messages) == _IN_ONE_REQUEST:
                further = range(RECEIVED_AT_ONCE // _IN_ONE_REQUEST - 1)
                for more in await asyncio.gather(*(self._received(client, url, wait_seconds=0) for _ in further)):
                    messages += more
        return messages

    async def delete(self, messages: Sequence[QueueMessage]) -> None:
        await self._settle("delete_message_batch", messages, {})

    async def postpone(self, messages: Sequence[QueueMessage], *, seconds: int) -> None:
        hidden = {"VisibilityTimeout": min(seconds, LONGEST_POSTPONEMENT_SECONDS)}
        await self._settle("change_message_visibility_batch", messages, hidden)

    async def _received(self, client: Any, url: str, *, wait_seconds: int) -> list[QueueMessage]:
        answer = await client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=_IN_ONE_REQUEST, VisibilityTimeout=_HIDDEN_SECONDS, WaitTimeSeconds=wait_seconds
        )
        return [QueueMessage(told["MessageId"], told["Body"], told["ReceiptHandle"]) for told in answer.get("Messages", ())]

    async def _settle(self, operation: str, messages: Sequence[QueueMessage], also: Mapping[str, int]) -> None:
        with self._failures_named():
            client = await self._clients.get()
            send, url = getattr(client, operation), await self._url(client, self._name)
            entries = [{"Id": str(number), "ReceiptHandle": message.receipt, **also} for number, message in enumerate(messages)]
            batches = [entries[start : start + _IN_ONE_REQUEST] for start in range(0, len(entries), _IN_ONE_REQUEST)]
            answers = await asyncio.gather(*(send(QueueUrl=url, Entries=batch) for batch in batches))
        failed = sum(len(answer.get("Failed", ())) for answer in answers)
        if failed:
            log.info("%s: %d of %d messages come again, for they could not be settled", self._names.place, failed, len(messages))

    async def _dead_letters(self, client: Any, target: tuple[str, str]) -> int | None:
        """None when the credential may not look at that queue: the other one serves all the same."""
        owner, name = target
        try:
            return int((await self._attributes(client, name, owner, _NUMBERS[0]))[_NUMBERS[0]])
        except ClientError as error:
            log.debug("the dead letters of %s cannot be counted: %s", self._names.place, error.response.get("Error", {}).get("Code"))
            return None

    async def _attributes(self, client: Any, name: str, owner: str | None, *attributes: str) -> Mapping[str, str]:
        url = await self._url(client, name, owner)
        answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=attributes)
        told: Mapping[str, str] = answer.get("Attributes", {})
        return told

    async def _url(self, client: Any, name: str, owner: str | None = None) -> str:
        known = self._clients.urls.get((name, owner))
        if known is None:
            whose = {} if owner is None else {"QueueOwnerAWSAccountId": owner}
            known = self._clients.urls[name, owner] = str((await client.get_queue_url(QueueName=name, **whose))["QueueUrl"])
        return known

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise source_unavailable(error, self._names) from error


def _dead_letter_target(policy: str | None) -> tuple[str, str] | None:
    """Account and name of the queue that a redrive policy names: `arn:aws:sqs:region:account:name`."""
    try:
        arn = json.loads(policy or "{}").get("deadLetterTargetArn")
    except (ValueError, AttributeError):
        return None
    parts = arn.split(":") if isinstance(arn, str) else []
    return (parts[4], parts[5]) if len(parts) == 6 else None
