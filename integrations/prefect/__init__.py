"""Prefect as the orchestrator: deployments hold the schedules, flow runs are runs, and a worker executes them.

Prefect reads its environment once, when it is imported, and then sets up logging for the whole process and counts its users.
So what it is to leave alone is said here, before anything imports it. What the environment says already stays.
"""

import os
from pathlib import Path

os.environ.setdefault("PREFECT_LOGGING_SETTINGS_PATH", str(Path(__file__).with_name("logging.yml")))
os.environ.setdefault("DO_NOT_TRACK", "1")
