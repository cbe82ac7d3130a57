"""Whatever workers, crashes, leases and files do, in whatever order: a file's rows are in the table exactly as the ledger says, and

the versions whose rows they are exactly those that the policy for changed files says.

Workers run as far as the machine lets them: to one of the engine's hooks, where they may be killed, or taken for dead and then
wake up. Between the steps, the ledger and the table are compared.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.errors import LeaseLostError
from domain.ingestions.entities import ChangedFilePolicy, Ingestion, Policies
from domain.ledger.entities import BatchStatus, FileStatus, ProcessedFile
from domain.ports.engine import LoadBatch, TableUnavailableError
from domain.ports.repositories import FileSelection
from domain.ports.unit_of_work import UnitOfWork
from domain.relations import ProcessedFileFilter
from domain.runs.entities import Refresh, RefreshMode, Run, RunStatus, RunTrigger
from domain.states import ACTIVE_RUN
from tests.factories import BUCKET, NOW, a_run
from tests.fakes.database import FakeDatabase
from tests.fakes.scripted_engine import ROWS
from tests.workbench import Workbench, make_fake_workbench

IGNORE = ChangedFilePolicy.IGNORE
HOOKS = ("at_start", "before_commit", "after_commit")
NAMES = st.sampled_from("abcd")
POLICIES = st.sampled_from(ChangedFilePolicy)
WHAT = st.sampled_from(["good", "bad", "empty"])
WHICH = st.integers(0, 2)


@dataclass
class Worker:
    """One call of `process_files`; it waits at each hook for leave to go on."""

    run: Run
    task: asyncio.Task[Any] | None = None
    at: str | None = None
    leave: asyncio.Event = field(default_factory=asyncio.Event)


class ExactlyOnce(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.database = FakeDatabase()
        self.by_task: dict[asyncio.Task[Any], Worker] = {}
        self.before: Counter[FileStatus] = Counter()
        """What runs have counted of files that were forgotten since."""
        self.alive: list[Worker] = []
        """Those that have not ended and have not been killed; each stands at a hook."""

    @initialize(policy=POLICIES)
    def begin(self, policy: ChangedFilePolicy) -> None:
        self.bench: Workbench = self.do(make_fake_workbench(self.database))
        self.ingestion: Ingestion = self.do(self.bench.ingestion(policies=Policies(changed_files=policy)))
        self.policies = {policy}
        """All that there have been so far."""
        for hook in HOOKS:
            setattr(self.bench.engine, hook, self._stop_at(hook))
        for name in "abc":
            self.land(name, 1)
        self.work(0)
        while self.alive:
            self.go_on(0, 1)

    def teardown(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.settle()
        self.loop.close()

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def settle(self) -> None:
        """Let every worker run until it stands at a hook or has ended."""
        for _ in range(200):
            self.do(asyncio.sleep(0))

    def _stop_at(self, hook: str) -> Any:
        async def stop(_: LoadBatch) -> None:
            task = asyncio.current_task()
            worker = self.by_task.get(task) if task else None
            if worker is not None:
                worker.at = hook
                worker.leave.clear()
                await worker.leave.wait()
                worker.at = None

        return stop

    @rule(name=NAMES, version=st.integers(1, 3))
    def land(self, name: str, version: int) -> None:
        self.bench.land(name, content=b"x" * version)

    @precondition(lambda self: len(self.alive) < 3)
    @rule(names=st.sets(NAMES, min_size=1), version=st.integers(2, 3), what=WHAT, hooks=st.integers(0, 4))
    def change_and_work(self, names: set[str], version: int, what: str, hooks: int) -> None:
        """A load of files that have changed, which rules that know nothing of each other come upon seldom."""
        for name in sorted(names):
            self.land(name, version)
            self.turn(name, what)
        self.work(hooks)

    @rule(name=NAMES, what=WHAT)
    def turn(self, name: str, what: str) -> None:
        """What is in the file, as the engine reads it from now on."""
        engine, path = self.bench.engine, BUCKET + name
        engine.bad.pop(path, None)
        engine.empty.discard(path)
        if what == "bad":
            engine.bad[path] = "not JSON"
        elif what == "empty":
            engine.empty.add(path)

    @rule(policy=POLICIES)
    def decide_otherwise(self, policy: ChangedFilePolicy) -> None:
        """The policy for changed files becomes another; runs that are under way keep theirs."""
        self.policies.add(policy)
        self.ingestion = replace(self.ingestion, policies=Policies(changed_files=policy))

    @precondition(lambda self: len(self.alive) < 3)
    @rule(hooks=st.integers(0, 4))
    def work(self, hooks: int) -> None:
        """Another worker begins, whatever the others do: the ledger alone keeps them apart."""

        async def start() -> Worker:
            async with self.bench.unit_of_work(self.bench.tenant.id) as tx:
                await self._end_runs(tx)
                run = await tx.runs.create(a_run(ingestion_id=self.ingestion.id))
                run = await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW, lease_seconds=60)
            return Worker(run)

        async def load(worker: Worker, ingestion: Ingestion) -> None:
            bench = self.bench
            await bench.discovery.discover(ingestion, bench.tenant.grants, worker.run)
            async with bench.unit_of_work(bench.tenant.id) as tx:
                await tx.files.requeue_due_failures(ingestion.id, max_retries=100)
            await bench.processor.process_files(worker.run, ingestion, bench.tenant.grants)

        worker: Worker = self.do(start())
        worker.task = self.loop.create_task(load(worker, self.ingestion))
        # How it ended is looked at by who sets it going, if anybody does.
        worker.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.by_task[worker.task] = worker
        self.alive.append(worker)
        self._settle_and_count()
        if worker in self.alive:
            self.go_on(self.alive.index(worker), hooks)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH, hooks=st.integers(1, 4))
    def go_on(self, which: int, hooks: int) -> None:
        """Past so many hooks, or to the end."""
        worker = self._worker(which)
        for _ in range(hooks):
            worker.leave.set()
            self._settle_and_count()

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def is_taken_for_dead_and_wakes_up(self, which: int) -> None:
        self.all_are_taken_for_dead()
        self.go_on(which, 1)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """The server is stopped in an orderly way."""
        worker = self._worker(which)
        assert worker.task is not None
        worker.task.cancel()
        self._settle_and_count()
        assert worker not in self.alive

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def kill(self, which: int) -> None:
        """Nobody will ever give it leave to go on: its leases are all that remains of it."""
        self.alive.remove(self._worker(which))

    @rule(mode=st.sampled_from(RefreshMode))
    def refresh(self, mode: RefreshMode) -> None:
        """The table is made anew, over whatever the workers have in hand; who loads it next is open."""

        async def prepare() -> None:
            async with self.bench.unit_of_work(self.bench.tenant.id) as tx:
                await self._end_runs(tx)
                run = await tx.runs.create(a_run(ingestion_id=self.ingestion.id, trigger=RunTrigger.REFRESH, refresh=Refresh(mode)))
                run = await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW, lease_seconds=60)
            await self.bench.pipeline.prepare(run, self.ingestion, self.bench.tenant.grants)

        self.do(prepare())
        # A table that a lost worker has made, and nobody has marked anything in, may stay; it is empty.
        table = self.bench.engine.tables.get(self.ingestion.destination.key)
        assert table is None or not any(snapshot.rows for snapshot in table.snapshots)
        # What was forgotten took its attempts along, and left the counters of its runs.
        self.before = self._counted_by_runs() - self._attempted()

    @rule(name=NAMES, skip=st.booleans())
    def a_person_decides(self, name: str, skip: bool) -> None:
        selection = FileSelection(ingestion_id=self.ingestion.id, filter=ProcessedFileFilter(path_prefix=BUCKET + name))

        async def decide() -> None:
            async with self.bench.unit_of_work(self.bench.tenant.id) as tx:
                await (tx.files.skip(selection, reason="of no use") if skip else tx.files.requeue(selection))

        self.do(decide())

    @rule()
    def snapshots_expire(self) -> None:
        for table in self.bench.engine.tables.values():
            table.expire()

    @rule()
    def all_are_taken_for_dead(self) -> None:
        self.do(self.bench.expire_leases())
        self.do(self.bench.pipeline.recover_lost())

    @rule()
    def time_passes(self) -> None:
        self.do(self.bench.expire_leases())

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def catalog_is_away_for_a_while(self, which: int) -> None:
        self.bench.engine.unavailable = TableUnavailableError("the catalog does not answer")
        self.all_are_taken_for_dead()
        self.go_on(which, 1)
        self.bench.engine.unavailable = None

    @invariant()
    def rows_are_in_the_table_once_or_not_at_all(self) -> None:
        for file in self._files():
            if file.status is FileStatus.PROCESSING:
                assert self.database.state.batches[file.batch_id].status is BatchStatus.CLAIMED  # type: ignore[index]  # in work
                assert self._loads(file) <= 1, file
            elif self._is_absent(file):
                assert self._loads(file) == 0, file
            elif file.status is FileStatus.SUCCESS:
                assert file.rows == ROWS
                replacing = self._replacing(file)
                if replacing is None:
                    assert self._loads(file) == 1, file
                else:
                    # A bad file has left the old rows, an empty one has taken them out and brought none.
                    assert self._loads(file) + self._loads(replacing) <= 1, file
            else:
                assert self._loads(file) == 0, file

    @invariant()
    def versions_are_those_that_the_policy_says(self) -> None:
        for path, versions in self._versions().items():
            assert [file.current for file in versions] == [False] * (len(versions) - 1) + [True], path
            loaded = [file for file in versions if file.status is FileStatus.SUCCESS]
            if ChangedFilePolicy.APPEND not in self.policies:
                assert len(loaded) <= 1, versions
            if ChangedFilePolicy.REPLACE not in self.policies:
                assert FileStatus.SUPERSEDED not in {file.status for file in versions}
            if self.policies == {ChangedFilePolicy.IGNORE}:
                assert len(versions) == 1, versions

    @invariant()
    def counters_add_up(self) -> None:
        counted, attempted = self._counted_by_runs(), self._attempted()
        attempted.update(self.before)
        assert counted == attempted
        assert sum(run.rows_written for run in self.database.state.runs.values()) == counted[FileStatus.SUCCESS] * ROWS

    @rule()
    def in_the_end_everything_is_settled(self) -> None:
        """Time and one more run: every good file is loaded, and nothing is in work."""
        while self.alive:
            self.go_on(0, 1)
        self.all_are_taken_for_dead()
        self.work(0)
        while self.alive:
            self.go_on(0, 1)
        for file in self._files():
            # A file whose retries are used up waits for a person, though it may have been mended meanwhile.
            may_have_failed = file.path in self.bench.engine.bad or file.next_retry_at is None
            if file.current:
                done = (FileStatus.SUCCESS, FileStatus.SKIPPED)
                assert file.status in done or (may_have_failed and file.status is FileStatus.FAILED), file
                as_listed = self.bench.stores.objects[file.path].etag == file.etag
                assert as_listed or (file.status is FileStatus.SUCCESS and self.ingestion.policies.changed_files is IGNORE), file
            table = self.bench.engine.tables.get(self.ingestion.destination.key)
            assert (table.rows_of(file.path) if table else 0) == sum(
                version.rows or 0
                for version in self._versions()[file.path]
                if version.status is FileStatus.SUCCESS and not self._is_absent(version)
            ), file

    async def _end_runs(self, tx: UnitOfWork) -> None:
        for run in [run for run in self.database.state.runs.values() if run.status in ACTIVE_RUN]:
            await tx.runs.update_status(run.id, RunStatus.FAILED, at=NOW)

    def _counted_by_runs(self) -> Counter[FileStatus]:
        runs = self.database.state.runs.values()
        return +Counter(
            {
                FileStatus.SUCCESS: sum(run.files_processed for run in runs),
                FileStatus.FAILED: sum(run.files_failed for run in runs),
                FileStatus.SKIPPED: sum(run.files_skipped for run in runs),
            }
        )

    def _attempted(self) -> Counter[FileStatus]:
        return Counter(attempt.outcome for attempt in self.database.state.attempts.values())

    def _worker(self, which: int) -> Worker:
        return self.alive[which % len(self.alive)]

    def _settle_and_count(self) -> None:
        """Let workers run, and part from those that have ended; what may end them is known."""
        self.settle()
        for worker in [worker for worker in self.alive if worker.task is not None and worker.task.done()]:
            self.alive.remove(worker)
            error = None if worker.task is None or worker.task.cancelled() else worker.task.exception()
            assert error is None or isinstance(error, LeaseLostError | TableUnavailableError), error

    def _is_absent(self, file: ProcessedFile) -> bool:
        """Loaded before a refresh that has left it out."""
        generation = self.database.state.ingestions[self.ingestion.id].generation
        return file.status is FileStatus.SUCCESS and file.generation != generation

    def _files(self) -> list[ProcessedFile]:
        return list(self.database.state.files.values())

    def _versions(self) -> dict[str, list[ProcessedFile]]:
        """By path, the oldest first."""
        versions: dict[str, list[ProcessedFile]] = defaultdict(list)
        for file in sorted(self._files(), key=lambda file: file.id):
            versions[file.path].append(file)
        return versions

    def _replacing(self, file: ProcessedFile) -> ProcessedFile | None:
        """The version whose commit may have taken the file's rows out, and which nobody has marked yet."""
        table = self.bench.engine.tables.get(self.ingestion.destination.key)
        current = self._versions()[file.path][-1]
        in_work = current.status is FileStatus.PROCESSING and current.replaces
        committed = table is not None and any(snapshot.batch_id == current.batch_id for snapshot in table.snapshots)
        return current if in_work and committed else None

    def _loads(self, file: ProcessedFile) -> int:
        """How many commits of this version there are in the table: those of any batch that it was ever in."""
        table = self.bench.engine.tables.get(self.ingestion.destination.key)
        if table is None:
            return 0
        batches = {load.batch_id for load in self.bench.engine.loads if file.id in {each.file_id for each in load.files}}
        return sum(snapshot.batch_id in batches and file.path in snapshot.rows for snapshot in table.snapshots)


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
