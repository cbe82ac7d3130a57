"""What ends a connection, and what does not."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from domain.errors import UnavailableError
from graphql_api.streams.open_streams import Ending, OpenStreams, StreamLimits


async def test_a_credential_that_cannot_be_checked_is_believed_until_it_can(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[bool | Exception] = [UnavailableError("the database is not available"), ZeroDivisionError(), True, False]

    async def still_good() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with OpenStreams(StreamLimits(believed_seconds=0.001)).connection() as connection:
        connection.admit(uuid4(), still_good)
        async with asyncio.timeout(20):
            assert await connection.ended() is Ending.CREDENTIAL
    assert answers == []
    assert [record.message for record in caplog.records] == ["a stream's credential could not be checked"]


async def test_the_first_reason_to_end_counts() -> None:
    streams = OpenStreams()
    async with streams.connection() as connection:
        connection.end(Ending.TOO_SLOW)
        streams.close()
        assert await connection.ended() is Ending.TOO_SLOW
    with pytest.raises(UnavailableError, match="the server is stopping"):
        async with streams.connection():
            pass
