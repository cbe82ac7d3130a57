"""The pool over clients that only count."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from integrations.engines.spark.session_pool import SessionPool


@dataclass(eq=False)
class Client:
    alive: bool = True
    closed: int = 0
    asked: int = 0

    def is_alive(self) -> bool:
        self.asked += 1
        return self.alive

    def close(self) -> None:
        self.closed += 1


@dataclass
class World:
    now: float = 0.0
    made: list[Client] = field(default_factory=list)
    pool: SessionPool[Client] = field(init=False)

    def __post_init__(self) -> None:
        self.pool = SessionPool(self._make, size=2, idle_seconds=100, check_after_seconds=30, clock=lambda: self.now)

    def _make(self) -> Client:
        self.made.append(Client())
        return self.made[-1]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.scenario(97)
def test_an_empty_pool_makes_a_client(world: World) -> None:
    client = world.pool.get_client()

    assert world.made == [client]
    assert world.pool.idle == 0


@pytest.mark.scenario(96, 98)
def test_a_returned_client_is_used_again(world: World) -> None:
    client = world.pool.get_client()
    world.pool.return_client(client)
    assert world.pool.idle == 1

    assert world.pool.get_client() is client
    assert (world.made, world.pool.idle, client.closed, client.asked) == ([client], 0, 0, 0)


@pytest.mark.scenario(99)
def test_a_client_too_many_is_closed(world: World) -> None:
    clients = [world.pool.get_client() for _ in range(3)]

    for client in clients:
        world.pool.return_client(client)

    assert world.pool.idle == 2
    assert [client.closed for client in clients] == [0, 0, 1]


@pytest.mark.scenario(100)
def test_clients_that_nobody_uses_are_closed(world: World) -> None:
    first, second = world.pool.get_client(), world.pool.get_client()
    world.pool.return_client(first)
    world.now = 50
    world.pool.return_client(second)
    world.now = 100

    assert world.pool.cleanup_idle_sessions() == 1
    assert (world.pool.idle, first.closed, second.closed) == (1, 1, 0)


def test_an_expired_client_is_not_handed_out(world: World) -> None:
    old = world.pool.get_client()
    world.pool.return_client(old)
    world.now = 100

    assert world.pool.get_client() is not old
    assert old.closed == 1


def test_a_client_that_does_not_answer_any_more_is_replaced(world: World) -> None:
    dead = world.pool.get_client()
    world.pool.return_client(dead)
    dead.alive = False
    world.now = 31

    fresh = world.pool.get_client()

    assert fresh is not dead
    assert (dead.asked, dead.closed) == (1, 1)


def test_a_client_goes_only_to_its_own_key(world: World) -> None:
    mine = world.pool.get_client("mine")
    world.pool.return_client(mine, "mine")

    assert world.pool.get_client("yours") is not mine
    assert world.pool.get_client("mine") is mine


def test_a_client_comes_back_after_its_use_and_is_closed_after_an_error(world: World) -> None:
    with world.pool.client() as client:
        assert world.pool.idle == 0
    assert (world.pool.idle, client.closed) == (1, 0)

    with pytest.raises(RuntimeError), world.pool.client() as again:
        raise RuntimeError
    assert again is client
    assert (world.pool.idle, client.closed) == (0, 1)


def test_a_closed_pool_keeps_nothing(world: World) -> None:
    idle, lent = world.pool.get_client(), world.pool.get_client()
    world.pool.return_client(idle)

    world.pool.close()
    world.pool.return_client(lent)

    assert (world.pool.idle, idle.closed, lent.closed) == (0, 1, 1)
