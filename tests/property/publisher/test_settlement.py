"""The keyed store on the real Postgres against a model: overlapping keys by every path, redelivered
in any cut, two publishers at once.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from services.publisher.ids import compute_pin_id
from shared.contract.cloudevents import EventType
from shared.contract.pins import PinSubmission, compute_fingerprint
from shared.contract.wire import encode
from shared.postgres.database import Database
from tests.property.conftest import Run
from tests.property.ids import Ids
from tests.property.profiles import examples
from tests.property.publisher.keyed_store import (
    COMMANDS,
    Key,
    KeyedStore,
    RowName,
    Sent,
    Told,
    in_order,
)
from tests.property.publisher.service import Answer, Publisher
from tests.support.factories import row_accepted, submitted

ACCEPTED = datetime(2020, 1, 1, tzinfo=UTC)
TIMES = [None, "2019-06-01T00:00:00Z", "2020-06-01T00:00:00Z", "2090-01-01T00:00:00Z"]
"""At once, past when it was accepted, due by now, and far from due."""
GARBAGE = [b"", b"[]", b"\xff", b'{"job_id": 1}']
BOARDS = ["there", "soon", "never"]
ACCOUNTS = ["lasting", "revoked", "unknown"]

contents = st.fixed_dictionaries(
    {
        "idempotency_key": st.sampled_from(["k1", "k2", "k3"]),
        "title": st.sampled_from(["A", "B"]),
        "board_id": st.sampled_from([*BOARDS, "soon", "there", "there"]),
        "account": st.sampled_from([*ACCOUNTS, *["lasting"] * 4]),
        "run_at": st.sampled_from([None, TIMES[2], *TIMES]),
        "damage": st.sampled_from([None] * 12 + ["unreadable", "nul in title", "nul in key"]),
    }
)


class Publishing(RuleBasedStateMachine):
    """Two partitions, each a log of rows.

    A batch is any stretch of them that leaves nothing out, from anywhere before: redelivery.
    """

    def __init__(self, publisher: Publisher, run: Run) -> None:
        super().__init__()
        self._publisher, self._run = publisher, run
        self._ids = Ids()
        self._model = KeyedStore()
        self._logs: list[list[Sent | bytes]] = [[], []]
        self._reached = [0, 0]
        self._first: dict[RowName, Told] = {}
        self._direct: list[str] = []
        self._has_soon = False
        self._is_revoked = False
        self._make_workspaces()

    def _make_workspaces(self) -> None:
        self._workspaces: list[UUID] = []
        self._accounts: dict[tuple[UUID, str], UUID] = {}
        for _ in range(2):
            workspace_id = self._run(self._publisher.operator.create_workspace("Test"))
            self._workspaces.append(workspace_id)
            for account in ("lasting", "revoked"):
                account_id = self._run(
                    self._publisher.operator.add_account(workspace_id, name=account)
                )
                self._accounts[workspace_id, account] = account_id
                self._run(
                    self._publisher.operator.add_board(
                        workspace_id, account_id, "there", name="There"
                    )
                )
            # Another's account is unknown here
            self._accounts[self._workspaces[0], "unknown"] = account_id
        self._accounts[workspace_id, "unknown"] = self._ids.new()

    # What is sent

    @rule(
        partition=st.integers(0, 1),
        workspace=st.integers(0, 1),
        seconds=st.integers(0, 2),
        rows=st.lists(contents, min_size=1, max_size=5),
    )
    def send(
        self, partition: int, workspace: int, seconds: int, rows: list[dict[str, Any]]
    ) -> None:
        job_id, accepted_at = self._ids.new(), ACCEPTED + timedelta(seconds=seconds)
        for number, fields in enumerate(rows, 1):
            self._logs[partition].append(
                self._sent(job_id, number, self._workspaces[workspace], accepted_at, dict(fields))
            )

    def _sent(
        self,
        job_id: UUID,
        number: int,
        workspace_id: UUID,
        accepted_at: datetime,
        fields: dict[str, Any],
    ) -> Sent:
        damage = fields.pop("damage")
        account_id = str(self._accounts[workspace_id, fields.pop("account")])
        about: dict[str, Any] = {
            "job_id": job_id,
            "workspace_id": workspace_id,
            "row_number": number,
            "accepted_at": accepted_at,
        }
        event = row_accepted(**about, account_id=account_id, **fields)
        if damage is None:
            return Sent(event, encode(event))
        if damage == "unreadable":
            return Sent(
                event,
                encode(event).replace(b'"fingerprint"', b'"gone"'),
                readable=False,
            )
        name = "title" if damage == "nul in title" else "idempotency_key"
        event = replace(event, row=replace(event.row, **{name: f"{getattr(event.row, name)}\0"}))
        return Sent(event, encode(event), storable=False)

    @initialize(
        batches=st.lists(st.lists(contents, min_size=2, max_size=5), min_size=2, max_size=3),
        value=st.sampled_from(GARBAGE),
    )
    def send_some(self, batches: list[list[dict[str, Any]]], value: bytes) -> None:
        """So that there is something to settle from the first step on."""
        for number, rows in enumerate(batches):
            self.send(number % 2, number // 2, number, rows)
        self._logs[0].append(value)

    # What changes around

    @precondition(lambda self: self._first and not self._has_soon)
    @rule()
    def add_board(self) -> None:
        for (workspace_id, account), account_id in self._accounts.items():
            if account != "unknown":
                self._run(
                    self._publisher.operator.add_board(
                        workspace_id, account_id, "soon", name="Soon"
                    )
                )
        self._has_soon = True

    @precondition(lambda self: self._first and not self._is_revoked)
    @rule()
    def revoke_account(self) -> None:
        for (_, account), account_id in self._accounts.items():
            if account == "revoked":
                self._run(self._publisher.revoke(account_id))
        self._is_revoked = True

    def _find_refusal(self, workspace_id: UUID, account_id: UUID, board_id: str) -> str | None:
        named = {self._accounts[workspace_id, name]: name for name in ACCOUNTS}[account_id]
        if named == "unknown" or (named == "revoked" and self._is_revoked):
            return "account_not_found"
        return (
            None
            if board_id == "there" or (board_id == "soon" and self._has_soon)
            else "board_not_found"
        )

    def _refused(self, rows: Sequence[Sent]) -> dict[RowName, str]:
        checked = {
            row.name: self._find_refusal(
                row.event.workspace_id, row.event.row.account_id, row.event.row.board_id
            )
            for row in rows
        }
        return {name: code for name, code in checked.items() if code}

    # What is settled

    def _batch(self, data: st.DataObject, partition: int) -> list[tuple[int, Sent | bytes]]:
        log = self._logs[partition]
        begin = data.draw(st.integers(0, self._reached[partition]))
        end = data.draw(st.integers(begin, min(begin + 12, len(log))))
        self._reached[partition] = max(end, self._reached[partition])
        return [(partition, one) for one in log[begin:end]]

    @rule(data=st.data(), partitions=st.sampled_from([[0], [1], [0, 1]]))
    def settle(self, data: st.DataObject, partitions: list[int]) -> None:
        batch = [one for partition in partitions for one in self._batch(data, partition)]
        answer = self._run(self._publisher.settle(batch))
        rows = [one for _, one in batch if isinstance(one, Sent)]
        assert answer.told == self._model.settle(rows, self._refused(rows))
        self._check(batch, answer)
        self._check_store()

    @rule()
    def settle_everything(self) -> None:
        for partition, log in enumerate(self._logs):
            self._reached[partition] = len(log)
        batch = [(partition, one) for partition, log in enumerate(self._logs) for one in log]
        rows = [one for _, one in batch if isinstance(one, Sent)]
        answer = self._run(self._publisher.settle(batch))
        assert answer.told == self._model.settle(rows, self._refused(rows))
        self._check(batch, answer)
        self._check_store()

    @rule(data=st.data(), other=st.integers(0, 1))
    def settle_two_at_once(self, data: st.DataObject, other: int) -> None:
        """Of two partitions; or of one, whose first publisher has lost it and does not know yet."""
        batches = [self._batch(data, 0), self._batch(data, other)]

        async def settle() -> list[Answer]:
            return await asyncio.gather(*map(self._publisher.settle, batches))

        answers: list[Answer] = self._run(settle())
        self._adopt(batches)
        for batch, answer in zip(batches, answers, strict=True):
            self._check(batch, answer)

    def _adopt(self, batches: Sequence[Sequence[tuple[int, Sent | bytes]]]) -> None:
        """Which of the two came first is free, key by key.

        What they leave behind must be possible, and binds from now on.
        """
        pins, failures = (
            self._run(self._publisher.pins(self._workspaces)),
            self._run(self._publisher.failures(self._collect_job_ids())),
        )
        rows = {one.name: one for batch in batches for _, one in batch if isinstance(one, Sent)}
        refused = self._refused(list(rows.values()))
        assert pins.items() >= self._model.pins.items()
        assert failures.items() >= self._model.failures.items()
        for key in pins.keys() - self._model.pins.keys():
            # The winner could be published, and was the first of its batch that could
            first_pins = [
                next(
                    (one.name for one in self._publishable(batch, refused) if one.key == key), None
                )
                for batch in batches
            ]
            assert pins[key].origin in first_pins
        for name in failures.keys() - self._model.failures.keys():
            assert name in refused or _is_lost(rows[name], refused)
        self._model.pins, self._model.failures = pins, failures

    def _publishable(
        self, batch: Sequence[tuple[int, Sent | bytes]], refused: dict[RowName, str]
    ) -> list[Sent]:
        rows = in_order([one for _, one in batch if isinstance(one, Sent)])
        return [
            one
            for one in rows
            if one.name not in refused
            and one.name not in self._model.failures
            and not _is_lost(one, refused)
        ]

    def _check(self, batch: Sequence[tuple[int, Sent | bytes]], answer: Answer) -> None:
        rows = [one for _, one in batch if isinstance(one, Sent)]
        for row in rows:
            told = answer.told[row.name]
            # Between two at once, and from one delivery to the next, only what is told of a
            # schedule may have moved on
            first = self._first.setdefault(row.name, told)
            assert (told.status, told.error_code, told.payload_matches) == (
                first.status,
                first.error_code,
                first.payload_matches,
            )
            assert told == self._model.tell(row)
        assert answer.told.keys() == {row.name for row in rows}
        refused = self._refused(rows)
        lost = [
            one if isinstance(one, bytes) else one.value
            for _, one in batch
            if isinstance(one, bytes) or _is_lost(one, refused)
        ]
        assert Counter(answer.letters) == Counter(lost)
        self._check_events(rows, answer)

    def _check_events(self, rows: Sequence[Sent], answer: Answer) -> None:
        created = [row for row in in_order(rows) if answer.told[row.name].status == "created"]
        unique = list({row.name: row for row in created}.values())
        expected = [
            (
                compute_pin_id(*row.key),
                EventType.PIN_SCHEDULED if row.scheduled_for else EventType.PIN_PUBLISHED,
            )
            for row in unique
        ]
        assert set(answer.announced) == set(expected)
        for (
            workspace_id
        ) in self._workspaces:  # of one workspace, so of one partition: there the order is kept
            ids = {
                compute_pin_id(*row.key) for row in unique if row.event.workspace_id == workspace_id
            }
            in_turn = [one for one in dict.fromkeys(answer.announced) if one[0] in ids]
            assert in_turn == [one for one in expected if one[0] in ids]

    # What comes by other ways

    @rule(workspace=st.integers(0, 1), fields=contents)
    def publish(self, workspace: int, fields: dict[str, Any]) -> None:
        workspace_id = self._workspaces[workspace]
        document = {
            name: value
            for name, value in fields.items()
            if name not in {"account", "damage", "run_at"}
        }
        document = submitted(
            **document, account_id=str(self._accounts[workspace_id, fields["account"]])
        )
        key = Key(workspace_id, document["idempotency_key"])
        answer = self._run(self._publisher.publish(workspace_id, document))
        assert answer == self._expected_of(key, document)
        if answer == "made":
            self._direct.append(f"{compute_pin_id(*key)}:published")
        self._check_store()

    def _expected_of(self, key: Key, document: dict[str, Any]) -> str:
        if pin := self._model.pins.get(key):
            if pin.is_deleted:
                return "pin_deleted"
            return "already_scheduled" if pin.state in {"scheduled", "cancelled"} else "replayed"
        refusal = self._find_refusal(
            key.workspace_id, UUID(document["account_id"]), document["board_id"]
        )
        if refusal is None:
            self._model.enter_directly(
                key, compute_fingerprint(PinSubmission.model_validate(document))
            )
        return refusal or "made"

    @rule(
        workspace=st.integers(0, 1),
        key=st.sampled_from(["k1", "k2", "k3"]),
        name=st.sampled_from(COMMANDS),
    )
    def command(self, workspace: int, key: str, name: str) -> None:
        workspace_id = self._workspaces[workspace]
        expected, after = self._model.command(name, Key(workspace_id, key), datetime.now(UTC))
        assert self._run(self._publisher.command(name, workspace_id, key)) == expected
        if after == "scheduled":
            self._direct.append(f"{compute_pin_id(workspace_id, key)}:scheduled")
        self._check_store()

    @rule()
    def run_due(self) -> None:
        origins = {one.name: one for log in self._logs for one in log if isinstance(one, Sent)}
        due = {
            key: origins[pin.origin]
            for key, pin in self._model.pins.items()
            if pin.origin in origins
        }
        names = self._refused(list(due.values()))
        before = dict(self._model.pins)
        self._run(self._publisher.run_due())
        self._model.run_due(
            datetime.now(UTC),
            {key: names[row.name] for key, row in due.items() if row.name in names},
        )
        for key, pin in self._model.pins.items():
            if pin.state != before[key].state:
                self._direct.append(f"{compute_pin_id(*key)}:{pin.state}")
        self._check_store()

    def _collect_job_ids(self) -> list[UUID]:
        return list(
            {one.event.job_id for log in self._logs for one in log if isinstance(one, Sent)}
        )

    def _check_store(self) -> None:
        assert self._run(self._publisher.pins(self._workspaces)) == self._model.pins
        assert self._run(self._publisher.failures(self._collect_job_ids())) == self._model.failures

    def teardown(self) -> None:
        # Of direct calls and of schedules that became due, one event each; a failure's has its time
        # behind
        waiting = [
            ":".join(one.split(":")[:2])
            for one in self._run(self._publisher.outbox(self._workspaces))
        ]
        assert sorted(waiting) == sorted(self._direct)


def _is_lost(row: Sent, refused: dict[RowName, str]) -> bool:
    """Whether its record goes to the dead letters."""
    return not row.readable or (not row.storable and row.name not in refused)


@pytest.mark.timeout(900)  # a failure is made small first
def test_invariants_3_4_6_and_7_the_store_is_what_its_rows_say_however_they_come(
    pool: Database, run: Run
) -> None:
    publisher = Publisher(pool)

    class Here(Publishing):
        def __init__(self) -> None:
            super().__init__(publisher, run)

    run_state_machine_as_test(Here, settings=examples(20))
