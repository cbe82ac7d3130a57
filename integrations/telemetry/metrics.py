"""What Prometheus is told. One registry for one application; labels take few values, and none that a client or a tenant chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from domain.backlog import COUNT_AT_MOST, Backlog
from domain.ports.telemetry import DeliveryOutcome, EventOutcome, Observation, Recovered, Work
from domain.runs.entities import Run, RunMetrics

CONTENT_TYPE = CONTENT_TYPE_LATEST

_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Memory, processor time and open files of this process.
        ProcessCollector(registry=self.registry)
        self._operations = self._histogram("operation_seconds", "GraphQL operations, by kind and outcome.", ["kind", "outcome"], _QUICK)
        self._loader_batches = self._histogram("loader_batch_seconds", "Statements of dataloaders.", ["name", "outcome"], _QUICK)
        self._loader_keys = self._counter(
            "loader_keys", "Keys that dataloaders asked for; per batch, how well they are put together.", ["name"]
        )
        self._service_calls = self._histogram("service_call_seconds", "Calls of the domain's services.", ["call", "outcome"], _QUICK)
        self._stages = self._histogram("run_stage_seconds", "Stages of runs.", ["stage", "outcome"], _LONG)
        self._batches = self._histogram("batch_seconds", "Batches: claimed files loaded by one table commit.", ["outcome"], _LONG)
        self._executing = Gauge("autoloader_runs_executing", "Runs that this process has in hand.", registry=self.registry)
        self._runs = self._counter("runs", "Runs that have ended, by what made them and how they ended.", ["trigger", "status"])
        self._run_seconds = self._histogram("run_seconds", "From a run's start to its end.", ["trigger", "status"], _LONG)
        self._files = self._counter("files", "Files that batches have settled.", ["outcome"])
        self._rows = self._counter("rows", "Rows of loaded files: written, left out, or kept raw.", ["outcome"])
        self._bytes = self._counter("bytes", "Bytes of loaded files.", [])
        self._recovered = self._counter("recovered", "What lost workers had left and this process has settled.", ["what"])
        self._deliveries = self._counter("webhook_attempts", "Tries of deliveries to webhooks.", ["outcome"])
        self._events = self._counter("source_events", "Notifications of stores that were received, by what came of them.", ["outcome"])
        self._owner = Gauge(
            "autoloader_background_owner", "1 while this process holds the lock of the background work.", registry=self.registry
        )
        self._in_use = self._gauge("pool_connections_in_use", "Database connections in use.", ["pool"])
        self._waiting = self._gauge("pool_waiting", "Who waits for a database connection.", ["pool"])
        self._observe: dict[Work, Callable[[Observation, str, float], None]] = {
            Work.OPERATION: lambda seen, outcome, seconds: self._operations.labels(seen.name, outcome).observe(seconds),
            Work.LOADER_BATCH: self._observe_loader_batch,
            Work.SERVICE_CALL: lambda seen, outcome, seconds: self._service_calls.labels(seen.name, outcome).observe(seconds),
            Work.RUN: lambda seen, outcome, seconds: self._executing.dec(),
            Work.STAGE: lambda seen, outcome, seconds: self._stages.labels(seen.name, outcome).observe(seconds),
            Work.BATCH: lambda seen, outcome, seconds: self._batches.labels(outcome).observe(seconds),
        }

    def begun(self, work: Work) -> None:
        if work is Work.RUN:
            self._executing.inc()

    def observe(self, work: Work, seen: Observation, outcome: str, seconds: float) -> None:
        self._observe[work](seen, outcome, seconds)

    def loaded(self, metrics: RunMetrics) -> None:
        self._files.labels("loaded").inc(metrics.files_processed)
        self._files.labels("failed").inc(metrics.files_failed)
        self._files.labels("skipped").inc(metrics.files_skipped)
        self._files.labels("held").inc(metrics.files_held)
        self._rows.labels("written").inc(metrics.rows_written)
        self._rows.labels("skipped").inc(metrics.rows_skipped)
        self._rows.labels("rescued").inc(metrics.rows_rescued)
        self._bytes.inc(metrics.bytes_processed)

    def ended(self, run: Run) -> None:
        self._runs.labels(run.trigger.value, run.status.value).inc()
        if run.duration_seconds is not None:
            self._run_seconds.labels(run.trigger.value, run.status.value).observe(run.duration_seconds)

    def recovered(self, what: Recovered) -> None:
        self._recovered.labels(what.value).inc()

    def delivery_tried(self, outcome: DeliveryOutcome) -> None:
        self._deliveries.labels(outcome.value).inc()

    def events(self, outcome: EventOutcome, count: int) -> None:
        self._events.labels(outcome.value).inc(count)

    def owns_background(self, owns: bool) -> None:
        self._owner.set(owns)

    def watch_pool(self, pool: str, in_use: Callable[[], float], waiting: Callable[[], float]) -> None:
        """How many connections are in use and how many wait for one, asked when somebody looks."""
        self._in_use.labels(pool).set_function(in_use)
        self._waiting.labels(pool).set_function(waiting)

    def page(self, backlog: Backlog | None) -> bytes:
        """The exposition. `backlog` is None when the database does not tell: its gauges are absent then, rather than old."""
        return generate_latest(self.registry) + generate_latest(_Told(backlog))

    def _observe_loader_batch(self, seen: Observation, outcome: str, seconds: float) -> None:
        self._loader_batches.labels(seen.name, outcome).observe(seconds)
        self._loader_keys.labels(seen.name).inc(int(seen.facts["keys"]))

    def _histogram(self, name: str, help: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"autoloader_{name}", help, labels, buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, help: str, labels: list[str]) -> Gauge:
        return Gauge(f"autoloader_{name}", help, labels, registry=self.registry)

    def _counter(self, name: str, help: str, labels: list[str]) -> Counter:
        return Counter(f"autoloader_{name}", help, labels, registry=self.registry)


class _Told(Collector):
    """The gauges that the database gives."""

    def __init__(self, backlog: Backlog | None) -> None:
        self._backlog = backlog

    def collect(self) -> Iterable[Metric]:
        told = self._backlog
        yield GaugeMetricFamily("autoloader_database_up", "1 when the database has told of the backlog.", value=told is not None)
        if told is None:
            return
        files = GaugeMetricFamily(
            "autoloader_backlog_files",
            f"Files that are PENDING, and FAILED ones that wait for a retry; of either status {COUNT_AT_MOST} at most are looked at.",
            labels=["state"],
        )
        files.add_metric(["pending"], told.pending)
        files.add_metric(["waiting_for_retry"], told.waiting_for_retry)
        yield files
        yield GaugeMetricFamily(
            "autoloader_lag_seconds",
            "Since when the longest known PENDING file waits; of ingestions that are not PAUSED. 0 when none waits.",
            value=told.lag_seconds,
        )
        yield GaugeMetricFamily("autoloader_outbox_entries", f"The outbox, counted to {COUNT_AT_MOST}.", value=told.outbox_entries)
        yield GaugeMetricFamily(
            "autoloader_outbox_overdue_seconds",
            "How long the outbox's longest due entry has been due; 0 when none is.",
            value=told.outbox_overdue_seconds,
        )
        yield GaugeMetricFamily(
            "autoloader_event_queue_messages", "Messages that wait in the queues of notifications.", value=told.queue_messages
        )
        yield GaugeMetricFamily(
            "autoloader_event_queue_dead_letters",
            "Messages in the dead letter queues of the queues of notifications.",
            value=told.dead_letters,
        )
        yield GaugeMetricFamily(
            "autoloader_event_queues_unavailable",
            "Queues of notifications that could not be asked at the last look.",
            value=told.queues_unavailable,
        )
        runs = GaugeMetricFamily("autoloader_runs_active", "Runs that have not ended, in all processes.", labels=["status"])
        for status, count in told.active_runs.items():
            runs.add_metric([status.value], count)
        yield runs
        yield GaugeMetricFamily(
            "autoloader_background_owned", "1 while some process holds the lock of the background work.", value=told.background_owned
        )
