"""The documents are of the form that Kubernetes and Compose accept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files

import kubernetes_validate
from jsonschema import Draft202012Validator

from tools.deployments.containers import REQUIRED
from tools.deployments.files import KUBERNETES, Deployments

VERSIONS = ("1.32", kubernetes_validate.latest_version())
"""Of Kubernetes: the oldest that is claimed, and the newest whose schemas there are."""
_KUSTOMIZATION = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "secretGenerator", "images"}


def problems(deployments: Deployments) -> Iterator[str]:
    for manifest in deployments.manifests:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(map(str, error.path))
                yield f"{manifest['kind']} {manifest['metadata']['name']}, Kubernetes {version}: {path}: {error.message}"
    schema = json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
    for error in Draft202012Validator(schema).iter_errors(deployments.compose):
        yield f"compose.yaml: {'.'.join(map(str, error.absolute_path))}: {error.message}"
    yield from _kustomization(deployments)
    for text in _texts(deployments.compose):
        if "$" in REQUIRED.sub("", text):
            yield f"compose.yaml: {text}: only ${{NAME:?what it is}} is read from outside, without which nothing starts"


def _kustomization(deployments: Deployments) -> Iterator[str]:
    kustomization = deployments.kustomization
    if unknown := kustomization.keys() - _KUSTOMIZATION:
        yield f"kustomization.yaml: {', '.join(sorted(unknown))}: not looked at by this check"
    there = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    if different := there ^ set(kustomization["resources"]):
        yield f"kustomization.yaml: resources are not the files of the folder: {', '.join(sorted(different))}"


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str):
        yield node
