"""Fixtures for all tests; each plugin starts what it serves only when a test asks."""

import pytest
from hypothesis import HealthCheck, settings

# How long something takes is no property: on a machine that does other work too, any of it may stand still for a while.
settings.register_profile("patient", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

pytest.register_assert_rewrite("tests.contracts", "tests.fakes", "tests.fixtures.statements")

pytest_plugins = [
    "tests.fixtures.api",
    "tests.fixtures.application",
    "tests.fixtures.database",
    "tests.fixtures.identity",
    "tests.fixtures.log_lines",
    "tests.fixtures.moto_server",
    "tests.fixtures.postgres",
    "tests.fixtures.receiver",
    "tests.fixtures.s3_server",
    "tests.fixtures.scenario_markers",
    "tests.fixtures.spans",
    "tests.fixtures.spark",
    "tests.fixtures.statements",
    # Last, for it imports others of them, which pytest is to have seen before.
    "tests.fixtures.chaos",
]
