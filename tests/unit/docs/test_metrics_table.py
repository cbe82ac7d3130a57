"""The metrics that operators are told of are the ones that there are."""

from __future__ import annotations

import re

from domain.backlog import Backlog
from integrations.telemetry.metrics import Metrics
from tests.unit.docs.markdown import document


def test_every_metric_is_explained_and_no_other() -> None:
    metrics = Metrics()
    metrics.watch_pool("tenants", lambda: 0, lambda: 0)
    page = metrics.page(
        Backlog(0, 0, 0.0, 0, 0.0, {}, background_owned=True, queue_messages=0, dead_letters=0, queues_unavailable=0)
    ).decode()
    there = {name for name in re.findall(r"^# TYPE (autoloader_\w+)", page, re.MULTILINE) if not name.endswith("_created")}
    told = {name for cells in document("docs/operations.md").rows() for name in re.findall(r"`(autoloader_\w+)(?:\{[\w,]+\})?`", cells[0])}
    assert told == there
