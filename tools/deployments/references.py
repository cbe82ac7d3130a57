"""What one part names is there in the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from tools.deployments import compose_references, kubernetes_references
from tools.deployments.containers import Container, containers
from tools.deployments.files import WORKLOADS, Deployments
from tools.deployments.reached import listens

_URL = re.compile(r"^[\w+]+://")


def problems(deployments: Deployments) -> Iterator[str]:
    yield from compose_references.problems(deployments)
    yield from kubernetes_references.problems(deployments)
    found = containers(deployments)
    for container in found:
        yield from _of_urls(deployments, container, [other for other in found if other.deployment == container.deployment])


def _of_urls(deployments: Deployments, container: Container, others: list[Container]) -> Iterator[str]:
    for name, value in container.environment.items():
        url = urlsplit(value) if _URL.match(value) else None
        if url is None or url.hostname is None or url.scheme == "s3":
            continue
        servers = [other for other in others if url.hostname in other.names and url.port in listens(other, deployments)]
        if not servers:
            yield f"{container.where}: {name}: nobody listens on {url.hostname}:{url.port}"
        elif container.deployment == "Kubernetes" and not _serves(deployments, url.hostname, url.port):
            yield f"{container.where}: {name}: the service {url.hostname} has no port {url.port}"
        elif container.deployment == "Kubernetes" and not _is_let_in(deployments, container, servers[0]):
            yield f"{container.where}: {name}: no NetworkPolicy lets it in to {url.hostname}"


def _serves(deployments: Deployments, host: str, port: int | None) -> bool:
    return port in {served["port"] for served in deployments.services[host]["spec"]["ports"]}


def _is_let_in(deployments: Deployments, client: Container, server: Container) -> bool:
    labels = {
        workload["metadata"]["name"]: workload["spec"]["template"]["metadata"]["labels"] for workload in deployments.of_kind(*WORKLOADS)
    }
    asking, asked = (labels[container.name.partition("/")[0]] for container in (client, server))
    for policy in deployments.of_kind("NetworkPolicy"):
        if policy["spec"]["podSelector"].get("matchLabels", {"app": None}).items() <= asked.items():
            for source in (source for rule in policy["spec"].get("ingress", ()) for source in rule["from"]):
                expressions = source.get("podSelector", {}).get("matchExpressions", ())
                if expressions and all(asking.get(each["key"]) in each["values"] for each in expressions):
                    return True
    return False
