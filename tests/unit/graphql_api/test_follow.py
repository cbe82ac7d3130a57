"""What stands around every subscription's resolver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from domain.errors import ForbiddenError
from domain.tenants import Role
from graphql_api.operations.authorization import Follow
from graphql_api.streams.open_streams import OpenStreams, StreamLimits
from tests.factories import a_principal


class Asked:
    """A resolver of two pages, and what was done with it."""

    def __init__(self, role: Role, **limits: Any) -> None:
        self.calls: list[str] = []
        services = SimpleNamespace(streams=OpenStreams(StreamLimits(**limits)))
        loaders = SimpleNamespace(forget=lambda: self.calls.append("forget"))
        self.info: Any = SimpleNamespace(context=SimpleNamespace(principal=a_principal(role=role), services=services, loaders=loaders))

    async def resolve(self, *_: Any) -> Any:
        self.calls.append("resolve")
        return self._pages()

    async def _pages(self) -> Any:
        try:
            for page in (["a", "b"], ["c"]):
                self.calls.append(f"read {page}")
                yield page
        finally:
            self.calls.append("closed")


async def test_a_lesser_role_is_refused_before_anything_is_resolved() -> None:
    asked = Asked(Role.OPERATOR)
    with pytest.raises(ForbiddenError, match="this needs the role ADMIN; yours is OPERATOR"):
        await Follow(Role.ADMIN).resolve_async(asked.resolve, None, asked.info)
    assert asked.calls == []


async def test_the_next_page_is_read_when_the_last_is_taken_and_each_from_fresh_loaders() -> None:
    asked = Asked(Role.ADMIN)
    values = await Follow(Role.ADMIN).resolve_async(asked.resolve, None, asked.info)
    assert asked.calls == ["resolve"]
    assert [await anext(values) for _ in range(2)] == ["a", "b"]
    assert asked.calls == ["resolve", "read ['a', 'b']", "forget"]
    assert await anext(values) == "c"
    assert asked.calls[3:] == ["read ['c']", "forget"]
    await values.aclose()
    assert asked.calls[5:] == ["closed"]


async def test_its_place_is_free_when_it_is_closed() -> None:
    asked = Asked(Role.ADMIN, subscriptions=1)
    for _ in range(2):
        values = await Follow(Role.ADMIN).resolve_async(asked.resolve, None, asked.info)
        assert await anext(values) == "a"
        await values.aclose()
