"""Sessions kept open between uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class PooledClient(Protocol):
    """What a pool has to know of a client."""

    def is_alive(self) -> bool: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=PooledClient)


@dataclass(frozen=True, slots=True)
class _Idle(Generic[C]):
    client: C
    key: Hashable
    since: float


class SessionPool(Generic[C]):
    """Keeps at most `size` idle clients, each for at most `idle_seconds`; what is asked for beyond that is made, and closed afterwards.

    A client goes only to whoever gives the key that it was made for: sessions of one tenant's grants are not another's.
    Safe to use from several threads; no call to a client is made under the lock.
    """

    def __init__(
        self,
        factory: Callable[[], C],
        *,
        size: int = 4,
        idle_seconds: float = 600.0,
        check_after_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._factory = factory
        self._size = size
        self._idle_seconds = idle_seconds
        self._check_after_seconds = check_after_seconds
        self._clock = clock
        self._idle: list[_Idle[C]] = []
        self._closed = False
        self._lock = threading.Lock()

    @property
    def idle(self) -> int:
        with self._lock:
            return len(self._idle)

    def get_client(self, key: Hashable = None) -> C:
        """The client that was returned last, if it still answers, or a new one."""
        self.cleanup_idle_sessions()
        while (found := self._take(key)) is not None:
            if self._clock() - found.since < self._check_after_seconds or found.client.is_alive():
                return found.client
            found.client.close()
        return self._factory()

    def return_client(self, client: C, key: Hashable = None) -> None:
        """Keep the client for the next use, or close it when there are enough."""
        with self._lock:
            keep = not self._closed and len(self._idle) < self._size
            if keep:
                self._idle.append(_Idle(client, key, self._clock()))
        if not keep:
            client.close()

    @contextmanager
    def client(self, key: Hashable = None) -> Iterator[C]:
        """A client for the length of a block. After an error it is closed: nobody knows what state its session is in."""
        client = self.get_client(key)
        try:
            yield client
        except BaseException:
            client.close()
            raise
        self.return_client(client, key)

    def cleanup_idle_sessions(self) -> int:
        """Close the clients that nobody has used for too long; how many."""
        horizon = self._clock() - self._idle_seconds
        with self._lock:
            expired = [idle for idle in self._idle if idle.since <= horizon]
            self._idle = [idle for idle in self._idle if idle.since > horizon]
        for idle in expired:
            idle.client.close()
        return len(expired)

    def close(self) -> None:
        """Close the idle clients now, and the others when they are returned."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for item in idle:
            item.client.close()

    def _take(self, key: Hashable) -> _Idle[C] | None:
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place].key == key:
                    return self._idle.pop(place)
            return None
