"""`python -m tools.deployments`: exit 1 when something that deploy/ says does not hold, with a line for each."""

from __future__ import annotations

import sys

from tools.deployments.check import problems
from tools.deployments.files import read

if found := problems(read()):
    sys.exit("\n".join(f"deploy/: {problem}" for problem in found))
