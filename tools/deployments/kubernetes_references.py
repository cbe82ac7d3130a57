"""What a manifest names is there: secrets, files, volumes, labels, ports, routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from tools.deployments.containers import config_maps, containers, secrets, selects
from tools.deployments.files import WORKLOADS, Deployments, Node
from tools.deployments.reached import listens, routes

_CONTENTS = (("configMap", "name", "configMapRef", config_maps), ("secret", "secretName", "secretRef", secrets))


def problems(deployments: Deployments) -> Iterator[str]:
    for generator, texts in (("configMapGenerator", deployments.files), ("secretGenerator", deployments.secrets)):
        for made in deployments.kustomization[generator]:
            files = [PurePosixPath(file).name for file in (*made.get("files", ()), *made.get("envs", ()))]
            yield from (f"kustomization.yaml: {made['name']}: {file} is not there" for file in files if file not in texts)
    for workload in deployments.of_kind(*WORKLOADS):
        where = f"Kubernetes, {workload['metadata']['name']}"
        if not selects(workload["spec"]["selector"]["matchLabels"], workload["spec"]["template"]):
            yield f"{where}: its selector is not its pods' labels"
        yield from (f"{where}: {problem}" for problem in _of_volumes(deployments, workload))
        yield from (f"{where}: {problem}" for problem in _of_environments(deployments, workload))
        yield from _of_probes(deployments, workload)
    yield from _of_selectors(deployments)


def _of_volumes(deployments: Deployments, workload: Node) -> Iterator[str]:
    pod = workload["spec"]["template"]["spec"]
    # What lies in a volume, None where that is not told.
    there: dict[str, set[str] | None] = {claim["metadata"]["name"]: None for claim in workload["spec"].get("volumeClaimTemplates", ())}
    for volume in pod.get("volumes", ()):
        there[volume["name"]] = None
        for kind, key, _, known in _CONTENTS:
            if kind in volume:
                contents = known(deployments).get(volume[kind][key])
                if contents is None:
                    yield f"there is no {kind} {volume[kind][key]}"
                    continue
                items = {item["path"]: item["key"] for item in volume[kind].get("items", ())}
                yield from (f"{volume[kind][key]} has no {item}" for item in items.values() if item not in contents)
                there[volume["name"]] = set(items or contents)
    mounts = [mount for container in [*pod.get("initContainers", ()), *pod["containers"]] for mount in container.get("volumeMounts", ())]
    for mount in mounts:
        contained = there.get(mount["name"])
        if "subPath" in mount and contained is not None and mount["subPath"] not in contained:
            yield f"{mount['name']} has no {mount['subPath']}"
    different = {mount["name"] for mount in mounts} ^ there.keys()
    yield from (f"the volume {name} is mounted and not declared, or the other way round" for name in sorted(different))


def _of_environments(deployments: Deployments, workload: Node) -> Iterator[str]:
    pod = workload["spec"]["template"]["spec"]
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        for reference in container.get("envFrom", ()):
            for kind, _, key, known in _CONTENTS:
                if key in reference and reference[key]["name"] not in known(deployments):
                    yield f"there is no {kind} {reference[key]['name']}"


def _of_probes(deployments: Deployments, workload: Node) -> Iterator[str]:
    by_name = {container.name: container for container in containers(deployments) if container.deployment == "Kubernetes"}
    for container in workload["spec"]["template"]["spec"]["containers"]:
        started = by_name[f"{workload['metadata']['name']}/{container['name']}"]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for port in ports.values():
            if port not in listens(started, deployments):
                yield f"{started.where}: it does not listen on {port}"
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind, {})
            asked = probe.get("httpGet") or probe.get("tcpSocket")
            if asked and asked["port"] not in ports:
                yield f"{started.where}: {kind}: it has no port {asked['port']}"
            if "httpGet" in probe and probe["httpGet"]["path"] not in routes(started):
                yield f"{started.where}: {kind}: it does not answer {probe['httpGet']['path']}"


def _of_selectors(deployments: Deployments) -> Iterator[str]:
    """Services, budgets and policies are about pods that there are, and name ports that those have."""
    templates = [workload["spec"]["template"] for workload in deployments.of_kind(*WORKLOADS)]
    for manifest in deployments.of_kind("Service", "PodDisruptionBudget", "NetworkPolicy"):
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        spec = manifest["spec"]
        chosen = spec.get("selector", spec.get("podSelector", {}))
        pods = [template for template in templates if selects(chosen.get("matchLabels", {} if "podSelector" in spec else chosen), template)]
        if not pods:
            yield f"{where}: there are no such pods"
        ports = {port["name"] for pod in pods for container in pod["spec"]["containers"] for port in container.get("ports", ())}
        asked = [port["targetPort"] for port in spec.get("ports", ())] if manifest["kind"] == "Service" else []
        asked += [port["port"] for rule in spec.get("ingress", ()) for port in rule.get("ports", ())]
        yield from (f"{where}: its pods have no port {port}" for port in asked if port not in ports)
