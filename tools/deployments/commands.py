"""Every command that is started is there, and takes what it is given."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import typer.main
from typer.core import TyperGroup
from typer.exceptions import TyperException

from autoloader.cli import app
from tools.deployments.containers import OUR_IMAGE, containers
from tools.deployments.files import Deployments

_IN_THE_BUILD = re.compile(r"^RUN .*\bautoloader((?: [a-z][\w-]*)+)$", re.MULTILINE)
_STARTED = re.compile(r"^(?:ENTRYPOINT|CMD) (.+)$", re.MULTILINE)


def problems(deployments: Deployments) -> Iterator[str]:
    started = [word for line in _STARTED.findall(deployments.dockerfile) for word in json.loads(line)]
    for words in ([OUR_IMAGE, *line.split()] for line in _IN_THE_BUILD.findall(deployments.dockerfile)):
        yield from _problems("Dockerfile", words)
    yield from _problems("Dockerfile", started)
    for container in containers(deployments):
        if container.is_ours:
            yield from _problems(container.where, container.words)


def _problems(where: str, words: Sequence[str]) -> Iterator[str]:
    match words:
        case ["autoloader", *arguments]:
            problem = _of_autoloader(arguments)
        case ["prefect", "server", *arguments]:
            problem = _of_prefect_server(arguments)
        case _:
            problem = "no command of the image"
    if problem:
        yield f"{where}: {' '.join(words)}: {problem}"


def _of_autoloader(arguments: list[str]) -> str | None:
    """What the command line itself would say, without doing it."""
    command: Any = typer.main.get_command(app)
    context = None
    name: str | None = OUR_IMAGE
    try:
        while True:
            context = command.make_context(name, list(arguments), parent=context)
            if not isinstance(command, TyperGroup):
                return None
            # A group's context keeps the subcommand's name apart from what follows it.
            name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
    except TyperException as error:
        return str(error) or "it needs a subcommand"


def _of_prefect_server(arguments: list[str]) -> str | None:
    from cyclopts import CycloptsError
    from prefect.cli.server import server_app

    try:
        server_app.parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return str(error)
    return None
