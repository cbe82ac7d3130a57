"""The containers that both deployments start, in one form. What they name and is not there is left out: `references` tells of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from tools.deployments.files import WORKLOADS, Deployments, Node, variables

OUR_IMAGE = "autoloader"
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")
"""A variable without which Compose does not start."""


@dataclass(frozen=True, slots=True)
class Container:
    """`words` are what is started; `names` the host names that it has; `volumes` what lies at which path, None for what is its own."""

    deployment: str
    name: str
    image: str
    words: tuple[str, ...]
    environment: Mapping[str, str]
    volumes: Mapping[str, str | None]
    stop_seconds: int
    is_ours: bool
    names: frozenset[str]

    @property
    def where(self) -> str:
        return f"{self.deployment}, {self.name}"

    @property
    def does(self) -> str:
        """The subcommand of `autoloader`, or the program."""
        return " ".join(word for word in self.words[1:] if not word.startswith("-")) if self.words[:1] == (OUR_IMAGE,) else self.words[0]


def containers(deployments: Deployments) -> list[Container]:
    return [*_of_compose(deployments), *_of_kubernetes(deployments)]


def _of_compose(deployments: Deployments) -> Iterator[Container]:
    for name, service in deployments.compose["services"].items():
        environment: dict[str, str] = {}
        for file in service.get("env_file", ()):
            environment |= variables(deployments.secrets.get(PurePosixPath(file).name, ""))
        environment |= service.get("environment", {})
        ours = service["image"].split(":")[0] == OUR_IMAGE
        start = service.get("entrypoint", [OUR_IMAGE] if ours else [])
        yield Container(
            "Compose",
            name,
            service["image"],
            (*start, *service.get("command", ())),
            {key: REQUIRED.sub("/given", value) for key, value in environment.items()},
            dict(_compose_volume(volume) for volume in service.get("volumes", ())),
            int(service.get("stop_grace_period", "10s").removesuffix("s")),
            ours,
            frozenset({name} | {other for other, of in deployments.compose["services"].items() if other == _network_of(service) and of}),
        )


def _network_of(service: Node) -> str | None:
    mode = service.get("network_mode", "")
    return mode.removeprefix("service:") if mode.startswith("service:") else None


def _compose_volume(volume: str | Node) -> tuple[str, str | None]:
    if isinstance(volume, dict):
        return volume["target"], volume["source"]
    source, colon, target = volume.partition(":")
    return (target, source) if colon else (source, None)


def _of_kubernetes(deployments: Deployments) -> Iterator[Container]:
    images = {image["name"]: f"{image.get('newName', image['name'])}:{image['newTag']}" for image in deployments.kustomization["images"]}
    for workload in deployments.of_kind(*WORKLOADS):
        template = workload["spec"]["template"]
        pod = template["spec"]
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        own = claims | {volume["name"] for volume in pod.get("volumes", ()) if "emptyDir" in volume}
        names = frozenset(name for name, service in deployments.services.items() if selects(service["spec"]["selector"], template))
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            ours = container["image"].split(":")[0] == OUR_IMAGE
            start = container.get("command", [OUR_IMAGE] if ours else [])
            yield Container(
                "Kubernetes",
                f"{workload['metadata']['name']}/{container['name']}",
                images.get(container["image"], container["image"]),
                (*start, *container.get("args", ())),
                environment_of(container, deployments),
                {mount["mountPath"]: None if mount["name"] in own else mount["name"] for mount in container.get("volumeMounts", ())},
                pod.get("terminationGracePeriodSeconds", 30),
                ours,
                names,
            )


def environment_of(container: Node, deployments: Deployments) -> dict[str, str]:
    """What a container of Kubernetes gets, from its references and of its own."""
    found: dict[str, str] = {}
    for reference in container.get("envFrom", ()):
        if "configMapRef" in reference:
            found |= config_maps(deployments).get(reference["configMapRef"]["name"], {})
        else:
            found |= secrets(deployments).get(reference["secretRef"]["name"], {})
    return found | {variable["name"]: variable["value"] for variable in container.get("env", ())}


def config_maps(deployments: Deployments) -> dict[str, dict[str, str]]:
    """What each ConfigMap holds, those that kustomize makes with the others."""
    written = {manifest["metadata"]["name"]: manifest["data"] for manifest in deployments.of_kind("ConfigMap")}
    made = {made["name"]: _made(made, deployments.files) for made in deployments.kustomization["configMapGenerator"]}
    return written | made


def secrets(deployments: Deployments) -> dict[str, dict[str, str]]:
    """What each Secret holds."""
    return {made["name"]: _made(made, deployments.secrets) for made in deployments.kustomization["secretGenerator"]}


def _made(generator: Node, texts: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for file in map(PurePosixPath, generator.get("files", ())):
        if file.name in texts:
            found[file.name] = texts[file.name]
    for file in map(PurePosixPath, generator.get("envs", ())):
        found |= variables(texts.get(file.name, ""))
    return found


def selects(selector: Node, template: Node) -> bool:
    """Whether the labels of a pod's template are those that `selector`, a mapping of labels, asks for."""
    return selector.items() <= template["metadata"]["labels"].items()
