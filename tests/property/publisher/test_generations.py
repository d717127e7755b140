"""Released keys, revived and updated pins and canceled jobs, compared with a model.

Rows are redelivered in any batches. After a restore they report the same as before.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace
from sqlalchemy import text

from services.publisher.generations import read_keys, release_keys
from services.publisher.ids import compute_generation_id, compute_pin_id
from shared.contract.events import OnExisting
from shared.contract.wire import encode
from shared.postgres.database import Database
from tests.property.conftest import Run
from tests.property.ids import Ids
from tests.property.profiles import examples
from tests.property.publisher.generations import AcceptedRow, Ledger, strip
from tests.property.publisher.keyed_store import PinKey, RowId, RowReport, SentRow
from tests.property.publisher.service import BatchResult, Publisher
from tests.property.publisher.test_replay import Simulation
from tests.support.factories import row_accepted

KEYS = ["k1", "k2"]
PINS = text("""
    select pin_id, idempotency_key, origin_job_id, origin_row, title, state,
        deleted_at is not null as is_deleted, generation, released_at is not null as is_released,
        current_pin_id
    from publisher.pins where workspace_id = :id
""")
# As a person does: the commands of pins set touched_at
DELETE = """
    update publisher.pins set deleted_at = now(), touched_at = now(),
        state = case state when 'scheduled' then 'cancelled' else state end
    where pin_id = :id and deleted_at is null
"""
CANCEL = """
    update publisher.pins set state = 'cancelled', touched_at = now()
    where pin_id = :id and state = 'scheduled'
"""
CANCEL_JOB = """
    insert into publisher.canceled_jobs (job_id, workspace_id, partition, next_offset)
    values (:job_id, :workspace_id, :partition, :next_offset) on conflict do nothing
"""

contents = st.fixed_dictionaries(
    {
        "idempotency_key": st.sampled_from(KEYS),
        "title": st.sampled_from(["A", "B", "C"]),
        "board_id": st.sampled_from(["101"] * 5 + ["404"]),
        "run_at": st.sampled_from([None, "2090-01-01T00:00:00Z", "2091-01-01T00:00:00Z"]),
        "on_existing": st.sampled_from(list(OnExisting)),
    }
)


class Store:
    """Changes and reads the keys of one workspace on the real Postgres."""

    def __init__(self, database: Database, workspace_id: UUID) -> None:
        self._database = database
        self._workspace_id = workspace_id

    async def release(self, key: str) -> None:
        """Releases a key as an undo does, if its pin stands."""
        first_pin_id = compute_pin_id(self._workspace_id, key)
        async with self._database.pipeline() as driver:
            state = (await read_keys(driver, [first_pin_id], lock=True)).get(first_pin_id)
            if state is None or state.is_free:
                return
            query = "select from publisher.pins where pin_id = %s and deleted_at is null for update"
            cursor = await driver.execute(query, [state.last_pin_id])
            if await cursor.fetchall():
                await release_keys(driver, [(first_pin_id, state.last_pin_id)])

    async def execute(self, statement: str, **values: Any) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(text(statement), values)

    async def pins(self) -> dict[UUID, dict[str, Any]]:
        rows = await self._database.fetch_all(PINS.bindparams(id=self._workspace_id))
        return {row["pin_id"]: dict(row) for row in rows}


def build_row(
    workspace_id: UUID,
    account_id: UUID,
    accepted_at: datetime,
    job_id: UUID,
    number: int,
    fields: dict[str, Any],
) -> SentRow:
    content = dict(fields)
    on_existing = content.pop("on_existing")
    event = row_accepted(
        workspace_id=workspace_id,
        job_id=job_id,
        row_number=number,
        accepted_at=accepted_at,
        account_id=str(account_id),
        **content,
    )
    event = replace(event, on_existing=on_existing)
    return SentRow(event, encode(event))


class Generations(RuleBasedStateMachine):
    """Two partitions, each a log of rows.

    A batch starts anywhere in the part that was read, and leaves nothing out.
    """

    def __init__(
        self, publisher: Publisher, database: Database, run: Run, *, is_connected: bool
    ) -> None:
        super().__init__()
        self._publisher, self._run = publisher, run
        self._ids = Ids()
        self._model = Ledger(is_connected)
        self._logs: list[list[AcceptedRow]] = [[], []]
        self._read_offsets = [0, 0]
        self._first: dict[RowId, RowReport] = {}
        self._step = 0
        self._workspace_id: UUID = run(publisher.operator.create_workspace("Test"))
        self._account_id: UUID = run(
            publisher.operator.add_account(self._workspace_id, name="account")
        )
        run(publisher.operator.add_board(self._workspace_id, self._account_id, "101", name="T"))
        if is_connected:
            run(publisher.connect(self._workspace_id, self._account_id))
        self._store = Store(database, self._workspace_id)

    def _next_step(self) -> int:
        self._step += 1
        return self._step

    @rule(partition=st.integers(0, 1), rows=st.lists(contents, min_size=1, max_size=4))
    def send(self, partition: int, rows: list[dict[str, Any]]) -> None:
        job_id, accepted_at, step = self._ids.new(), datetime.now(UTC), self._next_step()
        log = self._logs[partition]
        for number, fields in enumerate(rows, 1):
            sent = build_row(
                self._workspace_id, self._account_id, accepted_at, job_id, number, fields
            )
            is_failing = fields["board_id"] == "404"
            log.append(AcceptedRow(sent, step, partition, len(log), is_failing))

    @initialize(
        batches=st.lists(st.lists(contents, min_size=1, max_size=3), min_size=2, max_size=3)
    )
    def send_some(self, batches: list[list[dict[str, Any]]]) -> None:
        """Sends rows before the first step, so that there is something to settle."""
        for number, rows in enumerate(batches):
            self.send(number % 2, rows)

    @rule(data=st.data(), partition=st.integers(0, 1))
    def settle(self, data: st.DataObject, partition: int) -> None:
        begin = data.draw(st.integers(0, self._read_offsets[partition]))
        end = data.draw(st.integers(begin, min(begin + 12, len(self._logs[partition]))))
        self._settle(partition, begin, end)

    @rule(partition=st.integers(0, 1))
    def settle_next(self, partition: int) -> None:
        begin = self._read_offsets[partition]
        self._settle(partition, begin, min(begin + 3, len(self._logs[partition])))

    @rule(partition=st.integers(0, 1), rows=st.lists(contents, min_size=1, max_size=3))
    def send_and_settle(self, partition: int, rows: list[dict[str, Any]]) -> None:
        self.send(partition, rows)
        self._settle(partition, self._read_offsets[partition], len(self._logs[partition]))

    @rule(partition=st.integers(0, 1))
    def redeliver_everything(self, partition: int) -> None:
        self._settle(partition, 0, self._read_offsets[partition])

    def _settle(self, partition: int, begin: int, end: int) -> None:
        self._read_offsets[partition] = max(end, self._read_offsets[partition])
        rows = self._logs[partition][begin:end]
        batch: list[tuple[int, SentRow | bytes]] = [(partition, row.sent) for row in rows]
        result: BatchResult = self._run(self._publisher.settle(batch, first_offset=begin))
        expected = self._model.settle(rows)
        assert {name: strip(report) for name, report in result.reports.items()} == expected
        assert not result.dead_letters
        for name, report in result.reports.items():
            first = self._first.setdefault(name, report)
            assert (report.status, report.error_code) == (first.status, first.error_code)
        self._check_store()

    # Commands

    @rule(key=st.sampled_from(KEYS))
    def release(self, key: str) -> None:
        self._model.release(PinKey(self._workspace_id, key), self._next_step())
        self._run(self._store.release(key))
        self._check_store()

    @rule(
        key=st.sampled_from(KEYS), partition=st.integers(0, 1), rows=st.lists(contents, max_size=3)
    )
    def release_and_settle(self, key: str, partition: int, rows: list[dict[str, Any]]) -> None:
        self.release(key)
        self.send_and_settle(partition, [{**fields, "idempotency_key": key} for fields in rows])

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        self._model.delete(PinKey(self._workspace_id, key), self._next_step())
        self._command(DELETE, key)

    @rule(key=st.sampled_from(KEYS))
    def cancel_schedule(self, key: str) -> None:
        self._model.cancel_schedule(PinKey(self._workspace_id, key), self._next_step())
        self._command(CANCEL, key)

    def _command(self, statement: str, name: str) -> None:
        key = self._model.keys.get(PinKey(self._workspace_id, name))
        if key is not None and key.pins:
            pin_id = compute_generation_id(self._workspace_id, name, len(key.pins) - 1)
            self._run(self._store.execute(statement, id=pin_id))
        self._check_store()

    @rule(data=st.data(), partition=st.integers(0, 1))
    def cancel_job(self, data: st.DataObject, partition: int) -> None:
        log = self._logs[partition]
        if not log:
            return
        job_id = data.draw(st.sampled_from(log)).sent.event.job_id
        next_offset = self._read_offsets[partition]
        self._model.cancellations.setdefault((job_id, partition), next_offset)
        self._run(
            self._store.execute(
                CANCEL_JOB,
                job_id=job_id,
                workspace_id=self._workspace_id,
                partition=partition,
                next_offset=next_offset,
            )
        )

    def _check_store(self) -> None:
        pins = self._run(self._store.pins())
        expected = {}
        for name, key in self._model.keys.items():
            for generation, pin in enumerate(key.pins):
                pin_id = compute_generation_id(*name, generation)
                expected[pin_id] = (pin.origin, pin.title, pin.state, pin.is_deleted)
            if not key.pins:
                continue
            first = pins[compute_pin_id(*name)]
            assert (first["generation"] or 0) == len(key.pins) - 1
            assert first["is_released"] == (key.released_at is not None)
            has_other_pin = len(key.pins) > 1 and not key.is_free
            last_pin_id = compute_generation_id(*name, len(key.pins) - 1)
            assert first["current_pin_id"] == (last_pin_id if has_other_pin else None)
        assert {
            pin_id: (
                RowId(pin["origin_job_id"], pin["origin_row"]),
                pin["title"],
                pin["state"],
                pin["is_deleted"],
            )
            for pin_id, pin in pins.items()
        } == expected


@pytest.mark.timeout(900)  # Hypothesis shrinks a failure first
@pytest.mark.parametrize("is_connected", [False, True])
def test_invariants_3_4_and_7_keys_match_their_model_in_any_order(
    pool: Database, run: Run, is_connected: bool
) -> None:
    publisher = Publisher(pool)

    class Here(Generations):
        def __init__(self) -> None:
            super().__init__(publisher, pool, run, is_connected=is_connected)

    run_state_machine_as_test(Here, settings=examples(40))


# A restore


steps = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 2), st.lists(contents, min_size=1, max_size=3)),
        st.sampled_from(KEYS),
    ),
    max_size=8,
)
"""Imports, each with its partition, and released keys. Imports settle at once."""


class Scenario(NamedTuple):
    before: list[Any]
    """The steps before the backup."""
    lost: list[Any]
    """The steps after the backup, so that the restore loses them."""
    replay_order: list[int]
    """The partitions of the batches after the restore, in order."""
    batch_size: int
    """Rows per batch in the replay."""
    is_connected: bool
    """True if the account was ever connected to Pinterest. Nothing is delivered."""


scenarios = st.builds(
    Scenario,
    steps,
    steps,
    st.lists(st.integers(0, 2), max_size=20),
    st.integers(1, 5),
    st.booleans(),
)


class Restored(Simulation):
    """A simulation whose imports are accepted now, and whose keys are released."""

    def __init__(self, publisher: Publisher, run: Run, database: Database) -> None:
        super().__init__(publisher, run, database)
        self.store = Store(database, self.workspace_id)

    def take(self, steps: Sequence[Any]) -> dict[RowId, RowReport]:
        reports: dict[RowId, RowReport] = {}
        for step in steps:
            if isinstance(step, str):
                self.run(self.store.release(step))
                continue
            partition, rows = step
            job_id, accepted_at = self._ids.new(), datetime.now(UTC)
            for number, fields in enumerate(rows, 1):
                row = build_row(
                    self.workspace_id,
                    self._accounts["lasting"],
                    accepted_at,
                    job_id,
                    number,
                    fields,
                )
                self.logs[partition].append(row)
            reports |= self.settle_all([partition], 5)
        return reports

    def find_live(self) -> dict[UUID, tuple[RowId, str]]:
        """Returns the origin and the state of the pins that stand."""
        return {
            pin_id: (RowId(pin["origin_job_id"], pin["origin_row"]), pin["state"])
            for pin_id, pin in self.run(self.store.pins()).items()
            if not pin["is_deleted"]
        }


@examples(60)
@given(scenario=scenarios)
def _check_restore(pool: Database, run: Run, scenario: Scenario) -> None:
    simulation = Restored(Publisher(pool), run, pool)
    if scenario.is_connected:
        simulation.connect()
    first = simulation.take(scenario.before)
    backup = simulation.backup()
    first |= simulation.take(scenario.lost)
    live = simulation.find_live()
    simulation.restore(backup)
    again = simulation.settle_all(scenario.replay_order, scenario.batch_size)
    for name, report in again.items():
        assert report == first[name]
    after = simulation.find_live()
    assert live.items() <= after.items()
    pins = run(simulation.store.pins())
    keys = [pins[pin_id]["idempotency_key"] for pin_id in after]
    assert sorted(keys) == sorted(set(keys)), "one live pin for each key"
    # A second replay changes nothing, except that an update which came before its pin now applies
    simulation.positions = list(backup.positions)
    assert simulation.settle_all(scenario.replay_order, scenario.batch_size) == again
    assert without_titles(run(simulation.store.pins())) == without_titles(pins)


def without_titles(pins: dict[UUID, dict[str, Any]]) -> dict[UUID, dict[str, Any]]:
    return {pin_id: {**pin, "title": None} for pin_id, pin in pins.items()}


def test_invariants_3_and_4_a_restore_brings_the_last_generation_back(
    pool: Database, run: Run
) -> None:
    _check_restore(pool, run)


# Two at once


@examples(20)
@given(rows=st.lists(contents, min_size=2, max_size=6), releases=st.booleans())
def _check_two_publishers(
    pool: Database, run: Run, rows: list[dict[str, Any]], *, releases: bool
) -> None:
    simulation = Restored(Publisher(pool), run, pool)
    simulation.take([(0, rows[:1])])
    if releases:
        simulation.take(KEYS)
    accepted_at = datetime.now(UTC)
    batches = []
    for index in range(2):
        job_id = simulation._ids.new()
        account_id = simulation._accounts["lasting"]
        batches.append(
            [
                (
                    index,
                    build_row(
                        simulation.workspace_id,
                        account_id,
                        accepted_at + timedelta(microseconds=index),
                        job_id,
                        number,
                        fields,
                    ),
                )
                for number, fields in enumerate(rows, 1)
            ]
        )

    async def settle() -> list[BatchResult]:
        return await asyncio.gather(*map(simulation.publisher.settle, batches))

    results = run(settle())
    reports = results[0].reports | results[1].reports
    live = simulation.find_live()
    pins = run(simulation.store.pins())
    assert len({pins[pin_id]["idempotency_key"] for pin_id in live}) == len(live)
    created = {name for name, report in reports.items() if report.status == "created"}
    assert {pins[pin_id]["origin_job_id"] for pin_id in live} >= {name.job_id for name in created}
    for batch in batches:
        again = run(simulation.publisher.settle(batch)).reports
        assert {name: (report.status, report.error_code) for name, report in again.items()} == {
            name: (reports[name].status, reports[name].error_code) for name in again
        }


def test_invariant_3_two_publishers_never_publish_a_key_twice(pool: Database, run: Run) -> None:
    _check_two_publishers(pool, run)
