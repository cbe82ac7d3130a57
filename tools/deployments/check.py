"""All checks of deploy/."""

from __future__ import annotations

from tools.deployments import commands, hygiene, references, schemas, settings, versions
from tools.deployments.files import Deployments

CHECKS = (schemas, settings, commands, references, hygiene, versions)


def problems(deployments: Deployments) -> list[str]:
    """What does not hold, a line each, in the order of the checks."""
    return list(dict.fromkeys(problem for check in CHECKS for problem in check.problems(deployments)))
