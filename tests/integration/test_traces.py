"""Traces: one span for an operation, one for each statement of its loaders, none for a field; and a whole run."""

from __future__ import annotations

import asyncio
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import duckdb
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from domain.ports.telemetry import Work
from domain.runs.entities import Run
from graphql_api.relay.ids import decode_id
from integrations.telemetry.metrics import Metrics
from integrations.telemetry.recorder import Recorder
from integrations.telemetry.spans import open_spans
from tests.fixtures.application import Running
from tests.fixtures.log_lines import LogLines
from tests.fixtures.spans import Spans
from tests.integration.test_main_job import lay_json

DASHBOARD = """
query Dashboard {
  ingestions(first: 50) {
    totalCount
    nodes { id name status runs(first: 10) { nodes { id status rowsWritten progress } } lastRun { id status } files { nodes { path } } }
  }
}
"""


async def settled(spans: Spans) -> None:
    """Until the run's own span has ended, which it does just after the API can tell of the run's end."""
    async with asyncio.timeout(10):
        while not spans.named("run execute"):
            await asyncio.sleep(0.01)


async def test_a_dashboard_is_a_span_and_one_for_each_statement(spans: Spans, running: Running) -> None:
    for name in ("one", "two"):
        lay_json(running.landing, f"{name}/a.json", [{"id": 1}])
        path = str(running.landing / name)
        await running.run(await running.create(name, source={"type": "LOCAL", "path": path}))
    spans.clear()
    await running.client.data(DASHBOARD)
    [(operation, below)] = [tree for tree in spans.trees() if tree[0].startswith("operation")]
    assert operation == "operation query"
    assert sorted(below) == [
        ("loader batch Run", []),
        ("loader batch count of ingestions", []),
        ("loader batch ingestion.files", []),
        ("loader batch ingestion.runs", []),
        ("loader batch ingestions", []),
    ]
    [span] = spans.named("operation query")
    assert span.kind is SpanKind.SERVER
    assert dict(span.attributes or {}) == {
        "autoloader.tenant": str(running.client.tenant.id),
        "autoloader.operation_name": "Dashboard",
        "autoloader.loader_batches": 5,
        "autoloader.outcome": "ok",
    }
    [runs] = spans.named("loader batch ingestion.runs")
    assert dict(runs.attributes or {}) == {"autoloader.keys": 2, "autoloader.outcome": "ok"}


async def test_a_run_is_a_tree_of_its_stages(spans: Spans, running: Running) -> None:
    lay_json(running.landing, "a.json", [{"id": 1}])
    ingestion = await running.create("events")
    run = await running.run(ingestion)
    await settled(spans)
    [tree] = [tree for tree in spans.trees() if tree[0] == "run execute"]
    assert tree == (
        "run execute",
        [
            ("stage start", []),
            ("stage prepare", []),
            ("stage discover", []),
            ("stage check", []),
            ("stage process", [("batch load", [])]),
            ("stage complete", []),
        ],
    )
    [whole] = spans.named("run execute")
    assert {name: value for name, value in (whole.attributes or {}).items() if not name.endswith("_id")} == {
        "autoloader.tenant": str(running.client.tenant.id),
        "autoloader.trigger": "MANUAL",
        "autoloader.status": "SUCCESS",
        "autoloader.outcome": "ok",
    }
    [batch] = spans.named("batch load")
    assert {name: value for name, value in (batch.attributes or {}).items() if name != "autoloader.batch_id"} == {
        "autoloader.files": 1,
        "autoloader.outcome": "ok",
    }
    assert run["status"] == "SUCCESS"
    mutations = [tree for tree in spans.trees() if tree[0] == "operation mutation"]
    assert mutations == [
        ("operation mutation", [("service call IngestionService.create_ingestion", [])]),
        ("operation mutation", [("service call RunService.run_ingestion", [])]),
    ]


async def test_a_runs_trace_has_its_id_and_the_call_that_queued_it_links_there(spans: Spans, running: Running) -> None:
    lay_json(running.landing, "a.json", [{"id": 1}])
    run = await running.run(await running.create("events"))
    await settled(spans)
    run_id = decode_id(Run, run["id"])
    assert isinstance(run_id, UUID)
    [executed], [queued] = spans.named("run execute"), spans.named("service call RunService.run_ingestion")
    assert (executed.parent, executed.context.trace_id) == (None, run_id.int)
    stages = [span for name in ("stage discover", "batch load", "stage complete") for span in spans.named(name)]
    assert [span.context.trace_id for span in stages] == [run_id.int] * 3
    [link] = queued.links
    assert (link.context.trace_id, link.context.span_id) == (executed.context.trace_id, executed.context.span_id)
    assert queued.context.trace_id != run_id.int


async def test_a_run_is_part_of_nothing_whoever_executes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, run_id = InMemorySpanExporter(), uuid4()
    monkeypatch.setattr("integrations.telemetry.spans.processor_to", lambda _: SimpleSpanProcessor(exporter))
    async with open_spans("http://collector.test") as opened:
        recorder = Recorder(Metrics(), opened)
        with (
            recorder.during(Work.SERVICE_CALL, "around"),
            recorder.during(Work.RUN, "execute", run_id=str(run_id)),
            recorder.during(Work.STAGE, "start"),
        ):
            pass
    assert Spans(exporter).trees() == [("service call around", []), ("run execute", [("stage start", [])])]
    ids = [span.context.span_id for span in exporter.get_finished_spans()]
    assert len(set(ids)) == 3


async def test_a_run_that_fails_says_where(spans: Spans, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("postgresql://me:hunter2@db/x")

    monkeypatch.setattr("domain.ledger.discovery.FileDiscoveryService.discover", broken)
    assert (await running.run(await running.create("events")))["status"] == "FAILED"
    await settled(spans)
    [tree] = [tree for tree in spans.trees() if tree[0] == "run execute"]
    assert tree == ("run execute", [("stage start", []), ("stage prepare", []), ("stage discover", []), ("stage fail", [])])
    [whole] = spans.named("run execute")
    assert whole.status.status_code is StatusCode.ERROR
    [discover] = spans.named("stage discover")
    assert discover.status.status_code is StatusCode.ERROR
    assert dict(discover.attributes or {}) == {"error.type": "RuntimeError", "autoloader.outcome": "error"}
    assert not any("hunter2" in span.to_json() for span in spans.exporter.get_finished_spans())


async def test_the_callers_trace_is_continued(spans: Spans, running: Running) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await running.client.send("{ viewer { tenant } }", traceparent=parent)
    await running.client.send("{ viewer { tenant } }", traceparent="nonsense\x00")
    await running.client.send("{ viewer { tenant } }")
    first, *others = spans.named("operation query")
    assert first.parent is not None
    assert (f"{first.context.trace_id:032x}", f"{first.parent.span_id:016x}") == tuple(parent.split("-")[1:3])
    assert [span.parent for span in others] == [None, None]


async def test_background_work_that_finds_nothing_leaves_no_span(spans: Spans, running: Running) -> None:
    await running.client.data("{ viewer { tenant } }")
    assert [name for name, _ in spans.trees()] == ["operation query"]


async def test_a_runs_lines_say_which_run(running: Running, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("domain.ledger.discovery.FileDiscoveryService.discover", broken)
    run = await running.run(await running.create("events"))
    began, entry, ended = log_lines.by("domain.runs.pipeline")
    assert {line["run_id"] for line in (began, entry, ended)} == {entry["run_id"]}
    tenant = str(running.client.tenant.id)
    assert {name: entry[name] for name in ("tenant", "operation", "operation_kind")} == {
        "tenant": tenant,
        "operation": "execute",
        "operation_kind": "run",
    }
    assert entry["message"] == f"run {entry['run_id']} failed"
    assert "request_id" not in entry
    assert entry["run_id"] in run["errorMessage"]


async def test_the_engines_threads_say_which_run(running: Running, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise duckdb.OutOfMemoryException("no space left")

    monkeypatch.setattr("integrations.engines.embedded.batch_load.BatchLoad._read_and_write", full)
    lay_json(running.landing, "a.json", [{"id": 1}])
    queued = await running.run(await running.create("events"))
    assert queued["status"] == "FAILED"
    [entry] = log_lines.by("integrations.engines.embedded.batch_load")
    assert entry["operation"] == "execute"
    assert entry["run_id"]


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, ExportTraceServiceRequest]]]]:
    """Its base URL, and what was sent to it."""
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_spans_are_sent_over_otlp_and_none_is_lost_at_the_end() -> None:
    with collector() as (url, received):
        async with open_spans(f"{url}/") as spans:
            with Recorder(Metrics(), spans).during(Work.STAGE, "discover", files=3):
                pass
        [(path, request)] = received
    assert path == "/v1/traces"
    [resource] = request.resource_spans
    assert ("service.name", "autoloader") in {(pair.key, pair.value.string_value) for pair in resource.resource.attributes}
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["stage discover"]


def test_without_a_collector_opentelemetry_is_not_even_loaded() -> None:
    code = "import sys, autoloader.application, autoloader.stack; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
