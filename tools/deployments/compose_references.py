"""What compose.yaml names is there: files, volumes, other services, ports, routes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from tools.deployments.containers import Container, containers
from tools.deployments.files import Deployments, Node
from tools.deployments.reached import listens, routes

_ASKED = re.compile(r"http://127\.0\.0\.1:(\d+)(/[\w/]*)")


def problems(deployments: Deployments) -> Iterator[str]:
    services = deployments.compose["services"]
    found = {container.name: container for container in containers(deployments) if container.deployment == "Compose"}
    for name, service in services.items():
        where = f"Compose, {name}"
        yield from (f"{where}: {problem}" for problem in _of_others(service, services))
        yield from (f"{where}: {problem}" for problem in _of_ports(service, found[name], deployments))
        yield from (f"{where}: {file} is not made" for file in service.get("env_file", ()) if not _is_made(file, deployments))
    yield from _declared(deployments)


def _of_others(service: Node, services: Node) -> Iterator[str]:
    for other, condition in service.get("depends_on", {}).items():
        if other not in services:
            yield f"depends on {other}, which is not there"
        elif condition["condition"] == "service_healthy" and "healthcheck" not in services[other]:
            yield f"waits for the health of {other}, which has no check of it"
    network = service.get("network_mode", "").removeprefix("service:")
    if network and network not in services:
        yield f"shares the network of {network}, which is not there"


def _of_ports(service: Node, container: Container, deployments: Deployments) -> Iterator[str]:
    listening = listens(container, deployments)
    for port, path in _ASKED.findall(" ".join(service.get("healthcheck", {}).get("test", ()))):
        if int(port) not in listening:
            yield f"its check asks the port {port}, on which it does not listen"
        if path not in routes(container):
            yield f"its check asks for {path}, which it does not answer"
    for published in service.get("ports", ()):
        if int(published.rpartition(":")[2]) not in listening:
            yield f"{published}: it does not listen on that port"


def _declared(deployments: Deployments) -> Iterator[str]:
    compose = deployments.compose
    named: dict[str, set[str]] = {"volumes": set(), "configs": set(), "secrets": set()}
    for service in compose["services"].values():
        volumes = [volume.partition(":") for volume in service.get("volumes", ()) if isinstance(volume, str)]
        named["volumes"] |= {source for source, colon, _ in volumes if colon}
        for kind in ("configs", "secrets"):
            named[kind] |= {used["source"] if isinstance(used, dict) else used for used in service.get(kind, ())}
    for kind, used in named.items():
        yield from (
            f"Compose: {kind}: {name} is used and not declared, or the other way round" for name in sorted(used ^ set(compose[kind]))
        )
    yield from (f"Compose: {item['file']} is not made" for item in compose["secrets"].values() if not _is_made(item["file"], deployments))
    for path in (PurePosixPath(item["file"]) for item in compose["configs"].values()):
        if path.parent != PurePosixPath("kubernetes/files") or path.name not in deployments.files:
            yield f"Compose: {path} is not there"


def _is_made(file: str, deployments: Deployments) -> bool:
    path = PurePosixPath(file)
    return path.parent.name == "secrets" and path.name in deployments.secrets
