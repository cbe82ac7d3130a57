"""The embedded engine: DuckDB and PyArrow parse, PyIceberg commits, no server and no JVM."""

from integrations.engines.embedded.engine import EmbeddedEngine
from integrations.engines.embedded.settings import EmbeddedEngineSettings

__all__ = ["EmbeddedEngine", "EmbeddedEngineSettings"]
