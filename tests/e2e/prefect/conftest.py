from tests.fixtures.prefect_server import prefect, prefect_server

__all__ = ["prefect", "prefect_server"]
