"""No secret is written down, nobody is reached who need not be, and no process may do more than its work."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.deployments.containers import containers
from tools.deployments.files import WORKLOADS, Deployments, Node

_SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|AUTH_STRING|CREDENTIALS|PROPERTIES|API_KEY|WEBHOOK_KEY|DATABASE_URL|CONNECTION_URL")
_LOGIN = re.compile(r"://[^\s/]*:[^\s/]*@")
_DRAIN_SECONDS = "AUTOLOADER_DRAIN_SECONDS"
_MORE_THAN_DRAINING = 10
"""What docs/operations.md asks for between SIGTERM and SIGKILL, beside the time to drain."""
_HOME = "/var/lib/autoloader"


def problems(deployments: Deployments) -> Iterator[str]:
    yield from _secrets(deployments)
    for container in containers(deployments):
        tag = container.image.rpartition(":")[2] if ":" in container.image else ""
        if tag in {"", "latest"}:
            yield f"{container.where}: {container.image} is another image each day"
        if container.is_ours and container.volumes.get(_HOME, "") is not None:
            yield f"{container.where}: {_HOME} has to be a volume of the container's own"
        if container.does == "worker":
            needed = float(container.environment[_DRAIN_SECONDS]) + _MORE_THAN_DRAINING
            if container.stop_seconds != needed:
                yield f"{container.where}: it gets {container.stop_seconds} seconds to stop, and needs {needed:g}"
    for name, service in deployments.compose["services"].items():
        yield from (f"Compose, {name}: {problem}" for problem in _of_service(service))
    for workload in deployments.of_kind(*WORKLOADS):
        yield from (f"Kubernetes, {workload['metadata']['name']}: {problem}" for problem in _of_pod(workload["spec"]["template"]["spec"]))
    for name, service in deployments.services.items():
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"Service {name}: it is reached from outside the cluster"
    everybody = [policy["spec"] for policy in deployments.of_kind("NetworkPolicy") if policy["spec"]["podSelector"] == {}]
    if everybody != [{"podSelector": {}, "policyTypes": ["Ingress"]}]:
        yield "Kubernetes: no NetworkPolicy keeps out who is not named"


def _secrets(deployments: Deployments) -> Iterator[str]:
    written: list[tuple[str, Node]] = [("Dockerfile", dict(re.findall(r"(\w+)=(\S+)", deployments.dockerfile)))]
    written += [(f"Compose, {name}", service.get("environment", {})) for name, service in deployments.compose["services"].items()]
    written += [(f"ConfigMap {manifest['metadata']['name']}", manifest["data"]) for manifest in deployments.of_kind("ConfigMap")]
    for workload in deployments.of_kind(*WORKLOADS):
        pod = workload["spec"]["template"]["spec"]
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            given = {variable["name"]: variable.get("value", "") for variable in container.get("env", ())}
            written.append((f"Kubernetes, {workload['metadata']['name']}/{container['name']}", given))
    for where, variables in written:
        for name, value in variables.items():
            if _SECRET.search(name) or _LOGIN.search(value):
                yield f"{where}: {name} is a secret, and is written down"
    yield from (f"Secret {manifest['metadata']['name']}: it is written down" for manifest in deployments.of_kind("Secret"))


def _of_service(service: Node) -> Iterator[str]:
    for published in service.get("ports", ()):
        if not str(published).startswith("127.0.0.1:"):
            yield f"{published} is published beyond this machine"
    for problem, fine in (
        ("its file system can be written", service.get("read_only") is True),
        ("it keeps capabilities", service.get("cap_drop") == ["ALL"] and "cap_add" not in service),
        ("it can gain privileges", "no-new-privileges:true" in service.get("security_opt", ()) and not service.get("privileged")),
        ("it runs as root", service["image"].startswith("autoloader:") or service.get("user", "root").split(":")[0] not in {"root", "0"}),
        ("it shares the machine's network", service.get("network_mode") != "host"),
    ):
        if not fine:
            yield problem


def _of_pod(pod: Node) -> Iterator[str]:
    context = pod.get("securityContext", {})
    for problem, fine in (
        ("it gets a token of the cluster", pod.get("automountServiceAccountToken") is False),
        # Kubernetes would set PREFECT_PORT to an address, because there is a service called prefect.
        ("services become environment variables", pod.get("enableServiceLinks") is False),
        ("it may run as root", context.get("runAsNonRoot") is True and context.get("runAsUser", 0) > 0),
        ("it has no seccomp profile", context.get("seccompProfile") == {"type": "RuntimeDefault"}),
        ("it shares the node's network", not pod.get("hostNetwork")),
    ):
        if not fine:
            yield problem
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        context = container.get("securityContext", {})
        resources = container.get("resources", {})
        for problem, fine in (
            ("its file system can be written", context.get("readOnlyRootFilesystem") is True),
            ("it can gain privileges", context.get("allowPrivilegeEscalation") is False and not context.get("privileged")),
            ("it keeps capabilities", context.get("capabilities") == {"drop": ["ALL"]}),
            ("it says not what it needs", {"cpu", "memory"} <= resources.get("requests", {}).keys()),
            ("its memory has no bound", "memory" in resources.get("limits", {})),
            ("it takes a port of the node", not any("hostPort" in port for port in container.get("ports", ()))),
        ):
            if not fine:
                yield f"{container['name']}: {problem}"
