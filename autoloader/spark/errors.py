"""What keeps a local Spark from being served."""

from __future__ import annotations


class SparkServerError(Exception):
    """The server cannot be started, or did not start; the message tells a person what to do."""
