"""Undone imports on the real Postgres, compared with a model.

Imports are redelivered at any time. People edit, cancel, retry and delete what they created, and
direct calls take freed keys.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from services.ingest.ids import new_job_id
from services.publisher.ids import compute_generation_id, compute_pin_id
from services.publisher.imports.commands import ImportCommands
from services.publisher.imports.repository import ImportRepository
from services.publisher.imports.schemas import UndoRequest
from services.publisher.pins.removals import RemovalReader
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.schedules import ScheduleService
from services.publisher.pins.service import PinService
from services.publisher.rows.records import build_result
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from shared.access.cache import BoardCache
from shared.access.model import Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import ApiError
from shared.contract.events import RowAccepted, RowResult
from shared.contract.schedule_ids import derive_schedule_id
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.property.conftest import Run
from tests.property.profiles import examples
from tests.property.publisher.service import Publisher, confirm_always
from tests.support.factories import row_accepted, submitted_row

KEYS = ["k1", "k2", "k3"]
COMMANDS = ["edit", "cancel", "retry", "delete schedule", "delete pin"]
PINS = text("""
    select pin_id, idempotency_key, origin_row, state, deleted_at is not null as is_deleted,
        touched_at is not null as is_touched, run_at is not null as is_schedule,
        run_at <= now() as is_due
    from publisher.pins where workspace_id = :id
""")
KEY_ROWS = text("""
    select idempotency_key, generation, released_at is not null as is_released, current_pin_id
    from publisher.pins where pin_id = any(:ids)
""")
MAKE_DUE = text("""
    update publisher.pins set run_at = now() - interval '1 second'
    where workspace_id = :id and idempotency_key = :key and state = 'scheduled'
""")

rows = st.lists(
    st.tuples(st.sampled_from(KEYS), st.booleans()),  # the key, and whether it is a schedule
    min_size=1,
    max_size=4,
)


@dataclass
class Pin:
    """A pin of the model."""

    key: str
    origin: tuple[UUID, int] | None
    state: str
    is_schedule: bool
    is_touched: bool = False
    is_deleted: bool = False
    is_due: bool = False


@dataclass
class Key:
    """A key that was used. `released` is the step of its last release."""

    generation: int
    holder: UUID | None
    released: int | None = None


@dataclass
class Job:
    job_id: UUID
    accepted_at: datetime
    step: int
    rows: list[RowAccepted]
    results: list[RowResult] = field(default_factory=list)
    undo: dict[str, Any] | None = None


class Expected(NamedTuple):
    """The answer of an undo: rows with the change, and rows with the reason for leaving them."""

    undone: list[tuple[int, str]]
    left: list[tuple[int, str]]


class Model:
    def __init__(self, workspace_id: UUID) -> None:
        self._workspace_id = workspace_id
        self.pins: dict[UUID, Pin] = {}
        self.keys: dict[str, Key] = {}

    def settle(self, job: Job) -> Iterator[tuple[str, UUID]]:
        """Yields each row's status and the pin that it reports."""
        for row in job.rows:
            text_key, number = row.row.idempotency_key, row.row_number
            key = self.keys.get(text_key)
            may_take = key is None or (
                key.holder is None and key.released is not None and job.step > key.released
            )
            if may_take:
                is_schedule = row.row.run_at is not None
                yield "created", self.create(text_key, (job.job_id, number), is_schedule)
            else:
                yield "existing", self.find_last_pin(text_key)

    def create(self, key: str, origin: tuple[UUID, int] | None, is_schedule: bool) -> UUID:
        used = self.keys.get(key)
        generation = 0 if used is None else used.generation + 1
        pin_id = compute_generation_id(self._workspace_id, key, generation)
        self.pins[pin_id] = Pin(
            key, origin, "scheduled" if is_schedule else "published", is_schedule
        )
        self.keys[key] = Key(generation, pin_id, None if used is None else used.released)
        return pin_id

    def find_last_pin(self, key: str) -> UUID:
        return compute_generation_id(self._workspace_id, key, self.keys[key].generation)

    def plan_undo(self, job: Job) -> tuple[Expected, list[UUID]]:
        expected, undone = Expected([], []), []
        own = {pin.origin: pin_id for pin_id, pin in self.pins.items()}
        for row in job.rows:
            if (pin_id := own.get((job.job_id, row.row_number))) is None:
                continue
            pin = self.pins[pin_id]
            if reason := _find_hindrance(pin):
                expected.left.append((row.row_number, reason))
            else:
                action = "canceled" if pin.state == "scheduled" else "deleted"
                expected.undone.append((row.row_number, action))
                undone.append(pin_id)
        return expected, undone

    def release(self, pin_ids: list[UUID], step: int) -> None:
        for pin_id in pin_ids:
            pin = self.pins[pin_id]
            pin.is_deleted = True
            pin.state = "cancelled" if pin.state == "scheduled" else pin.state
            key = self.keys[pin.key]
            assert key.holder == pin_id
            key.holder, key.released = None, step

    def command(self, name: str, pin_id: UUID) -> str:
        """Runs a command of a person. Returns `done` or the error's code."""
        pin = self.pins[pin_id]
        is_shown = pin.state in {"published", "failed"} or (pin.state == "scheduled" and pin.is_due)
        if pin.is_deleted or not (is_shown if name == "delete pin" else pin.is_schedule):
            return "not_found"
        if (answer := _find_answer(name, pin)) is not None:
            return answer
        pin.is_touched = True
        if name == "retry":
            pin.state = "scheduled"
        elif name != "edit":
            pin.is_deleted = name != "cancel"
            pin.state = "cancelled" if pin.state == "scheduled" else pin.state
        return "done"


def _find_answer(name: str, pin: Pin) -> str | None:
    """Returns the answer of a command that changes nothing. None if it changes the pin."""
    match name:
        case "edit" if pin.state != "scheduled" or pin.is_due:
            return "schedule_not_pending"
        case "cancel" if pin.state == "published":
            return "schedule_not_pending"
        case "retry" | "delete schedule" if pin.state == "published":
            return "schedule_already_published"
        case "cancel" if pin.state == "cancelled":
            return "done"
        case "retry" if pin.state == "scheduled":
            return "done"
    return None


def _find_hindrance(pin: Pin) -> str | None:
    if pin.is_deleted:
        return "deleted"
    if pin.is_touched:
        return "canceled" if pin.state == "cancelled" else "changed"
    return None


class Undoing(RuleBasedStateMachine):
    def __init__(self, pool: Database, run: Run) -> None:
        super().__init__()
        self._pool, self._run = pool, run
        self._access = AccessRepository(pool)
        self._commands = ImportCommands(ImportRepository(pool, confirm_always), "imports")
        operator = Publisher(pool).operator
        self._id: UUID = run(operator.create_workspace("Test"))
        self._account_id: UUID = run(operator.add_account(self._id, name="Account"))
        run(operator.add_board(self._id, self._account_id, "there", name="There"))
        self._principal = Principal(self._id, uuid4(), frozenset())
        self._model = Model(self._id)
        self._jobs: list[Job] = []
        self._step = 0

    def _next_step(self) -> int:
        self._step += 1
        return self._step

    def _pick(self, number: int) -> Job:
        return self._jobs[number % len(self._jobs)]

    # Imports

    @initialize(rows=rows)
    def start(self, rows: list[tuple[str, bool]]) -> None:
        self.send_and_settle(rows)

    @rule(rows=rows)
    def send(self, rows: list[tuple[str, bool]]) -> None:
        """Accepts an import. It may settle much later."""
        self._accept(rows)

    def _accept(self, rows: list[tuple[str, bool]]) -> Job:
        accepted_at = datetime.now(UTC)
        job = Job(new_job_id(accepted_at), accepted_at, self._next_step(), [])
        for number, (key, is_schedule) in enumerate(rows, 1):
            row = row_accepted(
                job_id=job.job_id,
                workspace_id=self._id,
                row_number=number,
                accepted_at=accepted_at,
                account_id=str(self._account_id),
                board_id="there",
                idempotency_key=key,
                run_at="2090-01-01T00:00:00Z" if is_schedule else None,
            )
            job.rows.append(row)
        self._jobs.append(job)
        return job

    @rule(rows=rows)
    def send_and_settle(self, rows: list[tuple[str, bool]]) -> None:
        self._check_settled(self._accept(rows))

    @rule(number=st.integers(0, 50))
    def settle(self, number: int) -> None:
        self._check_settled(self._pick(number))

    def _check_settled(self, job: Job) -> None:
        results = self._run(self._settle(job))
        if job.results:
            self._check_redelivered(job, results)
            return
        job.results = results
        expected = list(self._model.settle(job))
        assert [(str(result.status), _find_pin_id(result)) for result in results] == expected

    async def _settle(self, job: Job) -> list[RowResult]:
        service = RowService(RowRepository(self._pool), BoardCache(self._access))
        settlement = await service.settle(job.rows, advance=Advance())
        return sorted(map(build_result, settlement.outcomes), key=lambda result: result.row_number)

    def _check_redelivered(self, job: Job, results: list[RowResult]) -> None:
        for first, again in zip(job.results, results, strict=True):
            assert first.status == again.status
            if first.status == "created":
                assert (first.pin_id, first.schedule_id) == (again.pin_id, again.schedule_id)

    # Undos

    @rule(number=st.integers(0, 50), dry_run=st.booleans())
    def undo(self, number: int, dry_run: bool) -> None:
        job = self._pick(number)
        self._check_undo(job, self._run(self._undo(job, dry_run=dry_run)), dry_run=dry_run)

    @rule(number=st.integers(0, 50))
    def undo_twice_at_once(self, number: int) -> None:
        job = self._pick(number)

        async def both() -> list[dict[str, Any]]:
            return list(await asyncio.gather(self._undo(job), self._undo(job)))

        answers = sorted(self._run(both()), key=lambda answer: bool(answer["is_replay"]))
        for answer in answers:
            self._check_undo(job, answer)

    @precondition(lambda self: any(job.results for job in self._jobs))
    @rule(number=st.integers(0, 50))
    def undo_while_it_is_redelivered(self, number: int) -> None:
        settled = [job for job in self._jobs if job.results]
        job = settled[number % len(settled)]

        async def both() -> tuple[dict[str, Any], list[RowResult]]:
            answer, results = await asyncio.gather(self._undo(job), self._settle(job))
            return answer, results

        answer, results = self._run(both())
        self._check_redelivered(job, results)
        self._check_undo(job, answer)

    async def _undo(self, job: Job, *, dry_run: bool = False) -> dict[str, Any]:
        return await self._commands.undo(
            UndoRequest(
                workspace_id=self._id,
                job_id=job.job_id,
                accepted_at=job.accepted_at,
                dry_run=dry_run,
            )
        )

    def _check_undo(self, job: Job, answer: dict[str, Any], *, dry_run: bool = False) -> None:
        if job.undo is not None:
            assert answer == {**job.undo, "is_replay": True}
            return
        expected, undone = self._model.plan_undo(job)
        assert not answer["is_replay"]
        assert [(item["row_number"], item["action"]) for item in answer["undone"]] == [
            *expected.undone
        ]
        assert [(item["row_number"], item["reason"]) for item in answer["left"]] == expected.left
        if dry_run:
            assert answer["undo_id"] is None
            return
        job.undo = answer
        self._model.release(undone, self._next_step())

    # People and the scheduler

    @rule(key=st.sampled_from(KEYS), name=st.sampled_from(COMMANDS))
    def command(self, key: str, name: str) -> None:
        if key not in self._model.keys:
            return
        pin_id = self._model.find_last_pin(key)
        assert self._run(self._command(name, pin_id)) == self._model.command(name, pin_id)

    async def _command(self, name: str, pin_id: UUID) -> str:
        schedules, pins = self._schedules(), self._pins()
        try:
            match name:
                case "edit":
                    await schedules.edit(self._principal, pin_id, {"title": "Edited"})
                case "cancel":
                    await schedules.cancel(self._principal, pin_id)
                case "retry":
                    await schedules.retry(self._principal, pin_id)
                case "delete schedule":
                    await schedules.delete(self._principal, pin_id)
                case _:
                    await pins.delete(self._principal, pin_id)
        except ApiError as error:
            return str(error.code)
        return "done"

    @rule(key=st.sampled_from(KEYS))
    def publish(self, key: str) -> None:
        document = submitted_row(
            account_id=str(self._account_id), board_id="there", idempotency_key=key
        )
        used = self._model.keys.get(key)
        if used is None or used.holder is None:
            expected = "created"
            self._model.create(key, None, is_schedule=False)
        else:
            pin = self._model.pins[used.holder]
            is_waiting = pin.state in {"scheduled", "cancelled"}
            expected = "already_scheduled" if is_waiting else "replayed"
            expected = "pin_deleted" if pin.is_deleted else expected
        assert self._run(self._publish(document)) == expected

    async def _publish(self, document: dict[str, Any]) -> str:
        try:
            pin_of_key = await self._pins().publish(self._principal, document)
        except ApiError as error:
            return str(error.code)
        return "created" if pin_of_key.is_new else "replayed"

    @rule(key=st.sampled_from(KEYS), publishes=st.booleans())
    def become_due(self, key: str, publishes: bool) -> None:
        async def become_due() -> None:
            async with self._pool.transaction() as connection:
                await connection.execute(MAKE_DUE, {"id": self._id, "key": key})
            if publishes:
                await Publisher(self._pool).publish_due()

        for pin in self._model.pins.values():
            if pin.state != "scheduled":
                continue
            pin.is_due = pin.is_due or pin.key == key
            if pin.is_due and publishes:
                pin.state = "published"
        self._run(become_due())

    def _pins(self) -> PinService:
        repository = PinRepository(self._pool, confirm_always)
        return PinService(
            repository,
            BoardCache(self._access),
            self._access,
            RemovalReader(self._pool, is_on=False),
        )

    def _schedules(self) -> ScheduleService:
        repository = PinRepository(self._pool, confirm_always)
        return ScheduleService(repository, BoardCache(self._access), self._access)

    @invariant()
    def the_store_matches_the_model(self) -> None:
        stored = self._run(self._pool.fetch_all(PINS.bindparams(id=self._id)))
        assert {row["pin_id"]: _summarize(row) for row in stored} == {
            pin_id: (pin.key, pin.state, pin.is_deleted, pin.is_touched, pin.is_schedule)
            for pin_id, pin in self._model.pins.items()
        }
        live = [row["idempotency_key"] for row in stored if not row["is_deleted"]]
        assert len(live) == len(set(live)), "a key has two pins"
        first_ids = [compute_pin_id(self._id, key) for key in KEYS]
        keys = self._run(self._pool.fetch_all(KEY_ROWS.bindparams(ids=first_ids)))
        assert {row["idempotency_key"] for row in keys} == self._model.keys.keys()
        for row in keys:
            key = self._model.keys[row["idempotency_key"]]
            assert (row["generation"] or 0, row["is_released"]) == (
                key.generation,
                key.released is not None,
            )
            assert row["current_pin_id"] == (key.holder if key.generation else None)


def _summarize(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("idempotency_key", "state", "is_deleted", "is_touched", "is_schedule")
    return tuple(row[name] for name in names)


def _find_pin_id(result: RowResult) -> UUID | None:
    if result.pin_id is not None or result.schedule_id is None:
        return result.pin_id
    return derive_schedule_id(result.schedule_id)  # its own inverse


@pytest.mark.timeout(900)  # Hypothesis shrinks a failure first
def test_undone_imports_match_their_model(pool: Database, run: Run) -> None:
    class Here(Undoing):
        def __init__(self) -> None:
            super().__init__(pool, run)

    run_state_machine_as_test(Here, settings=examples(25))
