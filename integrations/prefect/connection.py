"""The way to a Prefect server, and what it means when it is barred."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import temporary_settings

from domain.errors import UnavailableError

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PrefectConnection:
    """`api_url` ends in `/api`. `api_key` is for Prefect Cloud, `auth_string` (user:password) for a server that asks for one."""

    api_url: str
    api_key: str | None = field(default=None, repr=False)
    auth_string: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Where it is, without what lets us in."""
        parts = urlsplit(self.api_url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    def client(self) -> PrefectClient:
        """A client of one event loop, to be entered once."""
        return PrefectClient(
            self.api_url, api_key=self.api_key, auth_string=self.auth_string, httpx_settings={"timeout": httpx.Timeout(_TIMEOUT_SECONDS)}
        )

    def settings(self) -> contextlib.AbstractContextManager[Any]:
        """Inside, Prefect's own code talks to this server: of this task, and of those that it starts. The environment stays as it is."""
        return temporary_settings(
            {"api.url": self.api_url, "api.key": self.api_key, "api.auth_string": self.auth_string, "server.ephemeral.enabled": False}
        )


@contextlib.contextmanager
def errors_named(host: str) -> Iterator[None]:
    """What is raised when the server cannot be reached, or does not do what is asked, becomes an `UnavailableError` without secrets.

    `ObjectNotFound` passes: it is an answer.
    """
    try:
        yield
    except ObjectNotFound:
        raise
    except (TimeoutError, httpx.TimeoutException) as error:
        raise UnavailableError(f"Prefect at {host} does not answer in time") from error
    except httpx.HTTPStatusError as error:
        raise UnavailableError(f"Prefect at {host} refuses a request (status {error.response.status_code})") from error
    except (httpx.HTTPError, OSError) as error:
        raise UnavailableError(f"Prefect at {host} cannot be reached") from error
    except PrefectException as error:
        raise UnavailableError(f"Prefect at {host} refuses a request ({type(error).__name__})") from error
