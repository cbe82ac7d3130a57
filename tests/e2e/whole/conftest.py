from tests.fixtures.prefect_server import prefect, prefect_server
from tests.fixtures.whole_stack import stack, whole

__all__ = ["prefect", "prefect_server", "stack", "whole"]
