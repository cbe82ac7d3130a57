"""Every variable is one that its process knows, and has a value that it accepts; processes that work together agree."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pydantic
from pydantic import AliasChoices
from pydantic_settings import SettingsError

from autoloader.settings import Settings
from tools.deployments.containers import Container, containers
from tools.deployments.files import Deployments

_OURS = re.compile(r"(?:AUTOLOADER|PREFECT)_\w+")
_DIFFER = {"AUTOLOADER_HOST", "AUTOLOADER_DRAIN_SECONDS", "AUTOLOADER_WORKER_PORT"}
"""What each process may have of its own."""
_SHARED = ("AUTOLOADER_DATABASE_URL", "AUTOLOADER_WAREHOUSE", "AUTOLOADER_WEBHOOK_KEY")
"""What would otherwise be in the home folder, which each container has of its own."""
_TOGETHER = {"up", "worker"}


def problems(deployments: Deployments) -> Iterator[str]:
    found = containers(deployments)
    for container in found:
        yield from _known(container)
        yield from _accepted(container)
        if container.does in _TOGETHER:
            yield from (f"{container.where}: {name} is not set, and would be the container's own" for name in _missing(container))
    for deployment in ("Compose", "Kubernetes"):
        yield from _agreed([container for container in found if container.deployment == deployment])
    known = autoloader_variables() | prefect_variables()
    for name in _OURS.findall(deployments.dockerfile):
        if name not in known and name != "PREFECT_HOME":
            yield f"Dockerfile: {name} is no setting"


def autoloader_variables() -> set[str]:
    """Everything that `Settings` reads."""
    found = {f"AUTOLOADER_{name.upper()}" for name in Settings.model_fields}
    for field in Settings.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            found |= {choice for choice in field.validation_alias.choices if isinstance(choice, str)}
    return found


def prefect_variables() -> set[str]:
    """Everything that Prefect reads."""
    from prefect.settings import Settings as PrefectSettings
    from prefect.settings.legacy import _get_settings_fields

    return set(_get_settings_fields(PrefectSettings))


def _known(container: Container) -> Iterator[str]:
    known = prefect_variables() if container.does == "prefect" else autoloader_variables()
    for name in container.environment:
        if _OURS.fullmatch(name) and name.partition("__")[0] not in known:
            yield f"{container.where}: {name} is no setting of {container.words[0]}"


def _accepted(container: Container) -> Iterator[str]:
    """Raises nothing, and shows no value: it may be secret."""
    from prefect.settings import Settings as PrefectSettings

    with _environment(container.environment):
        try:
            if container.does == "prefect":
                PrefectSettings()
            elif container.is_ours:
                Settings()
        except pydantic.ValidationError as error:
            for detail in error.errors():
                yield f"{container.where}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}"
        except SettingsError as error:
            yield f"{container.where}: {error}"


def _missing(container: Container) -> list[str]:
    return [name for name in _SHARED if name not in container.environment]


def _agreed(found: list[Container]) -> Iterator[str]:
    first, *others = [container for container in found if container.does in _TOGETHER | {"migrate"}]
    for other in others:
        names = {name for name in first.environment.keys() | other.environment.keys() if _OURS.fullmatch(name)} - _DIFFER
        for name in sorted(names):
            if first.environment.get(name) != other.environment.get(name):
                yield f"{other.where}: {name} is not what it is in {first.where}"
    secrets = {container.does: container.environment for container in found}
    for client, server, name in (
        ("AUTOLOADER_SPARK_TOKEN", "AUTOLOADER_SPARK_TOKEN", "spark serve"),
        ("AUTOLOADER_PREFECT_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "prefect"),
    ):
        if first.environment.get(client) != secrets.get(name, {}).get(server):
            yield f"{first.where}: {client} is not the {server} of {name}"


@contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    """These variables, and none of ours or Prefect's beside them."""
    before = dict(os.environ)
    try:
        for name in before:
            if _OURS.fullmatch(name):
                del os.environ[name]
        os.environ.update({name: value for name, value in given.items() if _OURS.fullmatch(name)})
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
