"""What a container answers: the ports that others reach, and the paths that a probe may ask for."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from graphql_api.probes import probe_routes
from tools.deployments.containers import Container
from tools.deployments.files import Deployments

_LISTENS = re.compile(r"^\s*listen (\d+)", re.MULTILINE)


def listens(container: Container, deployments: Deployments) -> set[int]:
    """The ports that others reach it on: by its command, its settings, or its configuration."""
    options = dict(re.findall(r"--(\w+)=(\S+)", " ".join(container.words)))
    match container.does:
        case "up":
            return {int(container.environment.get("AUTOLOADER_PORT", "8000"))} if "AUTOLOADER_HOST" in container.environment else set()
        case "worker":
            port = container.environment.get("AUTOLOADER_WORKER_PORT")
            return {int(port)} if port and "AUTOLOADER_HOST" in container.environment else set()
        case "prefect":
            return {int(options["port"])} if options.get("host") == "0.0.0.0" else set()  # noqa: S104 - it is asked, not done
        case "nginx":
            return {int(port) for port in _LISTENS.findall(deployments.files.get(PurePosixPath(container.words[-1]).name, ""))}
        case "postgres":
            return {5432}
        case _:
            return set()


def routes(container: Container) -> set[str]:
    """The paths that a probe may ask it for."""
    if container.does in {"up", "worker"}:
        return {route.path for route in probe_routes(_nothing, None)}
    # `autoloader.local_prefect` waits for it too.
    return {"/api/health"} if container.does == "prefect" else set()


async def _nothing() -> None:
    raise NotImplementedError
