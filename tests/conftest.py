"""Fixtures for all tests; each plugin starts what it serves only when a test asks."""

import pytest

pytest.register_assert_rewrite("tests.contracts", "tests.fakes", "tests.fixtures.statements")

pytest_plugins = [
    "tests.fixtures.api",
    "tests.fixtures.application",
    "tests.fixtures.database",
    "tests.fixtures.identity",
    "tests.fixtures.log_lines",
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
