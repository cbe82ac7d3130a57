"""The image holds what pyproject.toml and uv.lock say, and is called by the project's version."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.specifiers import SpecifierSet

from tools.deployments.containers import containers
from tools.deployments.files import Deployments

_JAVA = {"17", "21"}
"""What Spark 4 runs on."""
_OF_A_LOCKED_PACKAGE = ("prefect", "spark", "uv")


def problems(deployments: Deployments) -> Iterator[str]:
    project, dockerfile = deployments.project, deployments.dockerfile
    for container in containers(deployments):
        name, _, tag = container.image.rpartition(":")
        if container.is_ours and tag != project["project"]["version"]:
            yield f"{container.where}: {container.image} is not of the project's version, {project['project']['version']}"
        # A server of theirs would be of a version of its own; ours come out of our image.
        if any(word in name for word in _OF_A_LOCKED_PACKAGE):
            yield f"{container.where}: {container.image} does not come from uv.lock"
    if (uv := _one(r"\buv==(\S+)", dockerfile)) != deployments.locked["uv"]:
        yield f"Dockerfile: uv is {uv}, and {deployments.locked['uv']} in uv.lock"
    for line in re.findall(r"uv sync .*", dockerfile):
        if not {"--frozen", "--no-dev", "--extra spark"} <= set(re.findall(r"--extra \w+|--[\w-]+", line)):
            yield f"Dockerfile: {line}: not what uv.lock says for a server with Spark"
    python = _one(r"^FROM python:([\d.]+)", dockerfile)
    if python not in SpecifierSet(project["project"]["requires-python"]):
        yield f"Dockerfile: Python is {python}, and has to be {project['project']['requires-python']}"
    if (java := _one(r"openjdk-(\d+)-jre", dockerfile)) not in _JAVA:
        yield f"Dockerfile: Java is {java}, and Spark needs {' or '.join(sorted(_JAVA))}"
    copied = {name for line in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    if different := packages ^ (copied - {"pyproject.toml", "uv.lock", "README.md", "LICENSE"}):
        yield f"Dockerfile: copied are not the packages of pyproject.toml: {', '.join(sorted(different))}"
    if different := copied ^ set(re.findall(r"^!(.+)$", deployments.dockerignore, re.MULTILINE)):
        yield f"Dockerfile.dockerignore: lets through what is not copied, or the other way round: {', '.join(sorted(different))}"


def _one(pattern: str, text: str) -> str:
    found = set(re.findall(pattern, text, re.MULTILINE))
    return found.pop() if len(found) == 1 else "not told once"
