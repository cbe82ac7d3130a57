"""What `ActivityLog` and `Notifications` promise, and that no method that changes what people follow forgets to tell.

The methods are found by looking at the ports: a new one fails here until it has its line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.activity.entities import ActivityEvent, ActivityKind, Place
from domain.ingestions.entities import IngestionStatus, Reset
from domain.ports.activity import ActivityLog, Listener, Notifications
from domain.ports.repositories import FileSelection
from domain.ports.unit_of_work import UnitOfWork
from domain.runs.entities import RunMetrics, RunStatus
from tests.contracts.persistence.tenant_scope import Victim, a_victim, approved, ports_methods
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_proposal, a_run, a_schema, a_schema_version, an_ingestion

_LONG = 30.0
"""Nobody waits so long who is woken."""


@dataclass
class Followed:
    world: World
    log_of: Callable[[UUID], ActivityLog]
    notifications: Notifications

    @property
    def log(self) -> ActivityLog:
        return self.log_of(self.world.tenant.id)


async def everything_after(log: ActivityLog, place: Place, *, limit: int = 2, ingestion_id: UUID | None = None) -> list[ActivityEvent]:
    """Page by page, until nothing is left and nothing unsettled: a transaction of another test may hold the horizon for a moment."""
    found: list[ActivityEvent] = []
    async with asyncio.timeout(_LONG):
        while True:
            look = await log.after(place, limit=limit, ingestion_id=ingestion_id)
            found += look.events
            place = look.place
            assert len(look.events) <= limit
            if not look.events and not look.unsettled:
                return found
            if look.unsettled and not look.events:
                await asyncio.sleep(0.01)


def told(events: Sequence[ActivityEvent]) -> list[tuple[ActivityKind, UUID, UUID | None]]:
    return [(event.kind, event.ingestion_id, event.run_id) for event in events]


async def _touch(world: World, *ingestions: UUID) -> None:
    async with world.begin() as tx:
        for id in ingestions:
            present = await tx.ingestions.get_by_id(id)
            await tx.ingestions.update(present)


async def _create_and_fail(world: World) -> None:
    async with world.begin() as tx:
        await tx.ingestions.create(an_ingestion(tenant_id=world.tenant.id))
        raise ZeroDivisionError


class ActivityLogContract:
    async def test_what_was_before_is_not_told_and_what_comes_is_in_its_order(self, followed: Followed) -> None:
        world = followed.world
        ingestion = await world.ingestion()
        place = await followed.log.now()
        assert await everything_after(followed.log, place) == []
        run = await world.run(ingestion, started=True)
        other = await world.ingestion()
        await _touch(world, other.id, ingestion.id)
        events = await everything_after(followed.log, place)
        assert told(events) == [
            (ActivityKind.RUN_QUEUED, ingestion.id, run.id),
            (ActivityKind.RUN_STARTED, ingestion.id, run.id),
            (ActivityKind.INGESTION_CREATED, other.id, None),
            (ActivityKind.INGESTION_UPDATED, other.id, None),
            (ActivityKind.INGESTION_UPDATED, ingestion.id, None),
        ]
        assert {event.tenant_id for event in events} == {world.tenant.id}
        assert [event.at for event in events] == sorted(event.at for event in events)

    async def test_from_the_place_of_each_event_the_rest_follows(self, followed: Followed) -> None:
        world = followed.world
        place = await followed.log.now()
        for _ in range(2):
            await _touch(world, *[(await world.ingestion()).id for _ in range(2)])
        events = await everything_after(followed.log, place)
        assert len(events) == 8
        for number, event in enumerate(events, 1):
            assert await everything_after(followed.log, event.place) == events[number:]

    async def test_one_ingestion_s_are_told_alone(self, followed: Followed) -> None:
        world = followed.world
        mine, other = await world.ingestion(), await world.ingestion()
        place = await followed.log.now()
        await _touch(world, other.id, mine.id, other.id)
        await _touch(world, other.id)
        assert told(await everything_after(followed.log, place, ingestion_id=mine.id)) == [(ActivityKind.INGESTION_UPDATED, mine.id, None)]

    async def test_one_tenant_s_are_told_alone(self, followed: Followed) -> None:
        world = followed.world
        theirs, place = followed.log_of(world.other.id), await followed.log.now()
        ingestion = await world.ingestion()
        [event] = await everything_after(followed.log, place)
        assert await everything_after(theirs, place) == []
        assert await everything_after(theirs, place, ingestion_id=ingestion.id) == []
        assert await followed.log.holds(event.place, younger_than_seconds=_LONG)
        assert not await theirs.holds(event.place, younger_than_seconds=_LONG)

    async def test_the_same_twice_in_a_transaction_is_one_event(self, followed: Followed) -> None:
        world = followed.world
        run = await world.run(await world.ingestion(), started=True)
        place = await followed.log.now()
        async with world.begin() as tx:
            await tx.runs.update_metrics(run.id, RunMetrics(files_discovered=1))
            await tx.runs.update_metrics(run.id, RunMetrics(files_processed=1))
        assert told(await everything_after(followed.log, place)) == [(ActivityKind.RUN_PROGRESSED, run.ingestion_id, run.id)]

    async def test_what_is_rolled_back_is_not_told(self, followed: Followed) -> None:
        place = await followed.log.now()
        with pytest.raises(ZeroDivisionError):
            await _create_and_fail(followed.world)
        assert await everything_after(followed.log, place) == []

    async def test_only_the_place_of_an_event_that_is_kept_and_young_is_held(self, followed: Followed) -> None:
        place = await followed.log.now()
        await followed.world.ingestion()
        [event] = await everything_after(followed.log, place)
        assert await followed.log.holds(event.place, younger_than_seconds=_LONG)
        assert not await followed.log.holds(event.place, younger_than_seconds=0)
        assert not await followed.log.holds(replace(event.place, id=event.id + 1), younger_than_seconds=_LONG)
        assert not await followed.log.holds(replace(event.place, transaction=event.transaction - 1), younger_than_seconds=_LONG)
        await followed.world.directory.forget_activity(older_than_seconds=-1, limit=10)
        assert not await followed.log.holds(event.place, younger_than_seconds=_LONG)

    async def test_events_outlive_their_ingestion(self, followed: Followed) -> None:
        place = await followed.log.now()
        ingestion = await followed.world.ingestion()
        async with followed.world.begin() as tx:
            assert await tx.ingestions.delete(ingestion.id)
        assert told(await everything_after(followed.log, place)) == [
            (ActivityKind.INGESTION_CREATED, ingestion.id, None),
            (ActivityKind.INGESTION_DELETED, ingestion.id, None),
        ]


async def _update(tx: UnitOfWork, victim: Victim) -> None:
    present = await tx.ingestions.get_by_id(victim.ingestion.id)
    assert present is not None
    await tx.ingestions.update(present)


Change = Callable[[UnitOfWork, Victim], Awaitable[Any]]
_K = ActivityKind
_SCHEMA_2 = a_schema("id", "name: string")

TELLING: Mapping[str, tuple[Change, ActivityKind]] = {
    "ingestions.create": (lambda tx, v: tx.ingestions.create(an_ingestion(tenant_id=tx.tenant_id)), _K.INGESTION_CREATED),
    "ingestions.update": (_update, _K.INGESTION_UPDATED),
    "ingestions.update_status": (
        lambda tx, v: tx.ingestions.update_status(v.ingestion.id, IngestionStatus.PAUSED, next_due_at=None),
        _K.INGESTION_STATUS_CHANGED,
    ),
    "ingestions.begin_reset": (
        lambda tx, v: tx.ingestions.begin_reset(v.ingestion.id, Reset(uuid4()), generation=2, checkpoint_path="x"),
        _K.INGESTION_RESET_BEGUN,
    ),
    "ingestions.finish_reset": (lambda tx, v: tx.ingestions.finish_reset(v.ingestion.id, v.reset.id), _K.INGESTION_RESET_DONE),
    "ingestions.delete": (lambda tx, v: tx.ingestions.delete(v.ingestion.id), _K.INGESTION_DELETED),
    "runs.create": (lambda tx, v: tx.runs.create(a_run(ingestion_id=v.ingestion.id, status=RunStatus.SUCCESS)), _K.RUN_ENDED),
    "runs.update_status": (lambda tx, v: tx.runs.update_status(v.run.id, RunStatus.CANCELLING, at=NOW), _K.RUN_CANCELLING),
    "runs.update_metrics": (lambda tx, v: tx.runs.update_metrics(v.run.id, RunMetrics(1)), _K.RUN_PROGRESSED),
    "files.requeue": (lambda tx, v: tx.files.requeue(FileSelection(ids=(v.failed.id,))), _K.FILES_RETRIED),
    "files.skip": (lambda tx, v: tx.files.skip(FileSelection(ingestion_id=v.ingestion.id), reason="so"), _K.FILES_SKIPPED),
    "files.delete_by_ingestion": (lambda tx, v: tx.files.delete_by_ingestion(v.ingestion.id), _K.FILES_FORGOTTEN),
    "schema_versions.append": (
        lambda tx, v: tx.schema_versions.append(a_schema_version(ingestion_id=v.ingestion.id, version=2, schema=_SCHEMA_2)),
        _K.SCHEMA_CHANGED,
    ),
    "schema_changes.propose": (
        lambda tx, v: tx.schema_changes.propose(**a_proposal(v.ingestion.id, run_id=v.run.id)),
        _K.SCHEMA_CHANGE_PROPOSED,
    ),
    "schema_changes.decide": (lambda tx, v: tx.schema_changes.decide(approved(v.change)), _K.SCHEMA_CHANGE_DECIDED),
    "schema_changes.withdraw_needless": (
        lambda tx, v: tx.schema_changes.withdraw_needless(v.ingestion.id),
        _K.SCHEMA_CHANGE_WITHDRAWN,
    ),
}
"""Methods that are activity, each with a change that it makes and what that is called."""

SILENT: Mapping[str, frozenset[str]] = {
    "they read": frozenset(
        {
            *("ingestions.get_by_id", "ingestions.get_by_tenant", "ingestions.get_active_ingestions", "ingestions.get_table"),
            "ingestions.get_by_files",
            *("runs.get_by_id", "runs.get_scheduled", "runs.get_runs_by_ingestion", "batches.get_by_id", "schema_versions.latest"),
            *("runs.get_active", "runs.hold_running", "runs.get_by_flow_run", "files.count_by_status", "batches.get_abandoned"),
            *("files.get_known_paths", "files.get_by_path_order", "files.get_replaced", "files.get_earlier_versions"),
            "files.rows_of_earlier_versions",
            *(
                "files.any_waiting",
                "files.count_pending",
                "files.get_by_path",
                "files.get_processed_file_paths",
                "files.get_processed_files",
            ),
            *("files.get_failed_files", "files.get_stale_processing_files", "files.batch_files", "api_keys.get_by_id"),
            *("api_keys.hold_admins", "webhooks.get_by_id", "webhooks.get_outgoing"),
            *("schema_changes.get_by_id", "schema_changes.get_open", "schema_changes.get_decided"),
        }
    ),
    "the run's own change in the same transaction tells": frozenset(
        {
            *(
                "ingestions.set_next_due",
                "ingestions.expect_data",
                "ingestions.update_last_run",
                "ingestions.set_table",
                "ingestions.see_snapshots",
                "files.record_discovered",
            ),
            *("files.requeue_due_failures", "files.assign_unloaded", "files.mark_success", "files.mark_failed", "files.mark_skipped"),
            "files.mark_held",
            "files.supersede",
        }
    ),
    "the run that it is for, or the decision, tells": frozenset({"files.release_held"}),
    "who works on what is nobody's news": frozenset(
        {
            *("runs.renew_lease", "runs.set_flow_run", "files.claim", "files.lock_file_for_processing", "files.release"),
            *("files.claim_paths", "runs.count_listing"),
            *("batches.open", "batches.renew_lease", "batches.take_over", "batches.commit", "batches.release"),
        }
    ),
    "webhooks are told, and of what is told already": frozenset(
        {"ingestions.take_lateness", "webhooks.enqueue", "webhooks.record_attempt", "webhooks.requeue"}
    ),
    "how a queue stands is looked at every few seconds, and listed is what a run or an update has told of": frozenset(
        {"ingestions.set_event_queue", "ingestions.set_last_listed"}
    ),
    "they are not about an ingestion": frozenset(
        {
            *("outbox.add", "idempotency_keys.claim", "idempotency_keys.take_over", "api_keys.create", "api_keys.revoke", "audit.record"),
            *("webhooks.create", "webhooks.delete"),
        }
    ),
}
"""Methods that are not, by why."""


class ActivityOfEveryMethodContract:
    async def test_every_method_tells_or_is_silent_for_a_reason(self) -> None:
        silent = [name for names in SILENT.values() for name in names]
        assert sorted([*TELLING, *silent]) == sorted(ports_methods())

    @pytest.mark.parametrize("method", sorted(TELLING))
    async def test_what_a_method_changes_is_told_once(self, followed: Followed, method: str) -> None:
        victim = await a_victim(followed.world)
        place = await followed.log.now()
        change, kind = TELLING[method]
        async with followed.world.begin() as tx:
            await change(tx, victim)
        [event] = await everything_after(followed.log, place)
        assert event.kind is kind
        assert (event.ingestion_id == victim.ingestion.id) == (method != "ingestions.create")
        assert (event.run_id is not None) == (method.startswith("runs.") or method == "schema_changes.propose")

    async def test_what_changes_nothing_is_not_told(self, followed: Followed) -> None:
        world = followed.world
        ingestion = await world.ingestion()
        place = await followed.log.now()
        async with world.begin() as tx:
            await tx.files.requeue(FileSelection(ingestion_id=ingestion.id))
            await tx.files.skip(FileSelection(ids=(1,)), reason="so")
            await tx.files.delete_by_ingestion(ingestion.id)
            await tx.ingestions.delete(uuid4())
            await tx.ingestions.finish_reset(ingestion.id, uuid4())
            await tx.runs.update_metrics(uuid4(), RunMetrics(1))
            await tx.schema_changes.withdraw_needless(ingestion.id)
        assert await everything_after(followed.log, place) == []


class NotificationsContract:
    async def test_a_commit_wakes_whoever_listens_to_its_tenant(self, followed: Followed) -> None:
        world = followed.world
        with followed.notifications.listen(world.tenant.id) as one, followed.notifications.listen(world.tenant.id) as another:
            await _is_heard(world, one)
            await another.wait(0)
            await world.ingestion()
            async with asyncio.timeout(_LONG):
                await asyncio.gather(one.wait(2 * _LONG), another.wait(2 * _LONG))

    async def test_many_commits_wake_once_and_other_tenants_not_at_all(self, followed: Followed) -> None:
        world = followed.world
        with followed.notifications.listen(world.tenant.id) as mine, followed.notifications.listen(world.other.id) as theirs:
            await _is_heard(world, mine)
            await theirs.wait(0)
            for _ in range(3):
                await world.ingestion()
            await world.ingestion(world.other)
            async with asyncio.timeout(_LONG):
                # Notifications come in the order of commits: when this one is heard, all before it have been.
                await theirs.wait(2 * _LONG)
            await mine.wait(2 * _LONG)
            await _times_out(mine)
            await world.ingestion()
            async with asyncio.timeout(_LONG):
                await mine.wait(2 * _LONG)
            await _times_out(theirs)

    async def test_what_happens_before_the_wait_is_heard_in_it(self, followed: Followed) -> None:
        with followed.notifications.listen(followed.world.tenant.id) as listener:
            await _is_heard(followed.world, listener)
            await followed.world.ingestion()
            async with asyncio.timeout(_LONG):
                await listener.wait(2 * _LONG)


async def _is_heard(world: World, listener: Listener) -> None:
    """Return when commits are heard, and those so far have been: listening begins at some moment after it is asked for."""
    async with asyncio.timeout(_LONG):
        while True:
            await world.ingestion()
            try:
                async with asyncio.timeout(0.5):
                    await listener.wait(2 * _LONG)
            except TimeoutError:
                continue
            break
    await _times_out(listener)


async def _times_out(listener: Listener) -> None:
    while True:
        began = asyncio.get_running_loop().time()
        await listener.wait(0.05)
        if asyncio.get_running_loop().time() - began >= 0.05:
            return
