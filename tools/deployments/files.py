"""The files of deploy/, parsed."""

from __future__ import annotations

import functools
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
KUBERNETES = FOLDER / "kubernetes"
WORKLOADS = ("Deployment", "StatefulSet", "Job")

Node = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """Refuses what YAML forbids and PyYAML lets through: a key that comes twice, of which the last one would count."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Node:
    keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise yaml.constructor.ConstructorError(None, None, f"{', '.join(sorted(twice))}: twice", node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def documents(text: str) -> list[Any]:
    """The documents of a YAML file. Raises `yaml.YAMLError`."""
    return list(yaml.load_all(text, _Loader))


@dataclass(slots=True)
class Deployments:
    """`manifests` in the order of the kustomization. `secrets` and `files` are texts by their names: what make_secrets.sh makes, and
    what both deployments mount."""

    compose: Node
    kustomization: Node
    manifests: list[Node]
    dockerfile: str
    dockerignore: str
    secrets: dict[str, str]
    files: dict[str, str]
    project: Node
    locked: dict[str, str]

    def of_kind(self, *kinds: str) -> list[Node]:
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    @property
    def services(self) -> Mapping[str, Node]:
        """Kubernetes' Services by name."""
        return {service["metadata"]["name"]: service for service in self.of_kind("Service")}


def read() -> Deployments:
    """Everything, afresh."""
    [compose] = documents((FOLDER / "compose.yaml").read_text())
    [kustomization] = documents((KUBERNETES / "kustomization.yaml").read_text())
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    return Deployments(
        compose=compose,
        kustomization=kustomization,
        manifests=[found for name in kustomization["resources"] for found in documents((KUBERNETES / name).read_text())],
        dockerfile=(FOLDER / "Dockerfile").read_text(),
        dockerignore=(FOLDER / "Dockerfile.dockerignore").read_text(),
        secrets=dict(_made_secrets()),
        files={path.name: path.read_text() for path in (KUBERNETES / "files").iterdir()},
        project=tomllib.loads((ROOT / "pyproject.toml").read_text()),
        locked={package["name"]: package["version"] for package in lock["package"]},
    )


@functools.cache
def _made_secrets() -> Mapping[str, str]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "secrets"
        subprocess.run([str(FOLDER / "make_secrets.sh"), str(folder)], check=True, capture_output=True, timeout=60)  # noqa: S603
        return {path.name: path.read_text() for path in folder.iterdir()}


def variables(text: str) -> dict[str, str]:
    """What an .env file sets."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
