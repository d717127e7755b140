"""The keyed store on the real Postgres, compared with a model.

Rows and direct calls share keys, rows are redelivered in any batches, and two publishers run at the
same time.
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
    Content,
    KeyedStore,
    PinKey,
    RowId,
    RowReport,
    SentRow,
    sort_rows,
)
from tests.property.publisher.service import BatchResult, Publisher
from tests.support.factories import row_accepted, submitted_row

ACCEPTED = datetime(2020, 1, 1, tzinfo=UTC)
TIMES = [None, "2019-06-01T00:00:00Z", "2020-06-01T00:00:00Z", "2090-01-01T00:00:00Z"]
"""Times to publish: at once, already past when accepted, due by now, and far in the future."""
GARBAGE = [b"", b"[]", b"\xff", b'{"job_id": 1}']
BOARDS = ["101", "102", "103"]
ACCOUNTS = ["lasting", "connected", "revoked", "unknown"]
CONNECTED = "connected"

contents = st.fixed_dictionaries(
    {
        "idempotency_key": st.sampled_from(["k1", "k2", "k3"]),
        "title": st.sampled_from(["A", "B"]),
        "board_id": st.sampled_from([*BOARDS, "102", "101", "101"]),
        "account": st.sampled_from([*ACCOUNTS, *["lasting", "connected"] * 2]),
        "run_at": st.sampled_from([None, TIMES[2], *TIMES]),
        "damage": st.sampled_from([None] * 12 + ["unreadable", "nul in title", "nul in key"]),
    }
)


class Publishing(RuleBasedStateMachine):
    """Two partitions, each a log of rows.

    A batch starts anywhere in the part that was read, and leaves nothing out. So rows are often
    redelivered.
    """

    def __init__(self, publisher: Publisher, run: Run) -> None:
        super().__init__()
        self._publisher, self._run = publisher, run
        self._ids = Ids()
        self._model = KeyedStore()
        self._logs: list[list[SentRow | bytes]] = [[], []]
        self._read_offsets = [0, 0]
        self._first: dict[RowId, RowReport] = {}
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
            for account in ("lasting", "connected", "revoked"):
                account_id = self._run(
                    self._publisher.operator.add_account(workspace_id, name=account)
                )
                self._accounts[workspace_id, account] = account_id
                self._run(
                    self._publisher.operator.add_board(
                        workspace_id, account_id, "101", name="There"
                    )
                )
            connected = self._accounts[workspace_id, "connected"]
            self._run(self._publisher.connect(workspace_id, connected))
            # An account of another workspace is unknown here
            self._accounts[self._workspaces[0], "unknown"] = account_id
        self._accounts[workspace_id, "unknown"] = self._ids.new()

    # Sends rows

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
                self._build_row(
                    job_id, number, self._workspaces[workspace], accepted_at, dict(fields)
                )
            )

    def _build_row(
        self,
        job_id: UUID,
        number: int,
        workspace_id: UUID,
        accepted_at: datetime,
        fields: dict[str, Any],
    ) -> SentRow:
        damage = fields.pop("damage")
        account = fields.pop("account")
        account_id, is_connected = str(self._accounts[workspace_id, account]), account == CONNECTED
        common_fields: dict[str, Any] = {
            "job_id": job_id,
            "workspace_id": workspace_id,
            "row_number": number,
            "accepted_at": accepted_at,
        }
        event = row_accepted(**common_fields, account_id=account_id, **fields)
        if damage is None:
            return SentRow(event, encode(event), is_connected=is_connected)
        if damage == "unreadable":
            return SentRow(
                event,
                encode(event).replace(b'"fingerprint"', b'"404"'),
                readable=False,
                is_connected=is_connected,
            )
        name = "title" if damage == "nul in title" else "idempotency_key"
        event = replace(event, row=replace(event.row, **{name: f"{getattr(event.row, name)}\0"}))
        return SentRow(event, encode(event), storable=False, is_connected=is_connected)

    @initialize(
        batches=st.lists(st.lists(contents, min_size=2, max_size=5), min_size=2, max_size=3),
        value=st.sampled_from(GARBAGE),
    )
    def send_some(self, batches: list[list[dict[str, Any]]], value: bytes) -> None:
        """Sends rows before the first step, so that there is something to settle."""
        for number, rows in enumerate(batches):
            self.send(number % 2, number // 2, number, rows)
        self._logs[0].append(value)

    # Changes boards and accounts

    @precondition(lambda self: self._first and not self._has_soon)
    @rule()
    def add_board(self) -> None:
        for (workspace_id, account), account_id in self._accounts.items():
            if account != "unknown":
                self._run(
                    self._publisher.operator.add_board(workspace_id, account_id, "102", name="Soon")
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
            if board_id == "101" or (board_id == "102" and self._has_soon)
            else "board_not_found"
        )

    def _find_failing(self, rows: Sequence[SentRow]) -> dict[RowId, str]:
        checked = {
            row.name: self._find_refusal(
                row.event.workspace_id, row.event.row.account_id, row.event.row.board_id
            )
            for row in rows
        }
        return {name: code for name, code in checked.items() if code}

    # Settles rows

    def _batch(self, data: st.DataObject, partition: int) -> list[tuple[int, SentRow | bytes]]:
        log = self._logs[partition]
        begin = data.draw(st.integers(0, self._read_offsets[partition]))
        end = data.draw(st.integers(begin, min(begin + 12, len(log))))
        self._read_offsets[partition] = max(end, self._read_offsets[partition])
        return [(partition, row) for row in log[begin:end]]

    @rule(data=st.data(), partitions=st.sampled_from([[0], [1], [0, 1]]))
    def settle(self, data: st.DataObject, partitions: list[int]) -> None:
        batch = [row for partition in partitions for row in self._batch(data, partition)]
        batch_result = self._run(self._publisher.settle(batch))
        rows = [row for _, row in batch if isinstance(row, SentRow)]
        assert batch_result.reports == self._model.settle(rows, self._find_failing(rows))
        self._check(batch, batch_result)
        self._check_store()

    @rule()
    def settle_everything(self) -> None:
        for partition, log in enumerate(self._logs):
            self._read_offsets[partition] = len(log)
        batch = [(partition, row) for partition, log in enumerate(self._logs) for row in log]
        rows = [row for _, row in batch if isinstance(row, SentRow)]
        batch_result = self._run(self._publisher.settle(batch))
        assert batch_result.reports == self._model.settle(rows, self._find_failing(rows))
        self._check(batch, batch_result)
        self._check_store()

    @rule(data=st.data(), other=st.integers(0, 1))
    def settle_two_at_once(self, data: st.DataObject, other: int) -> None:
        """Settles two batches at once.

        Both may be of one partition. Then its former publisher has lost the partition and does not
        know that yet.
        """
        batches = [self._batch(data, 0), self._batch(data, other)]

        async def settle() -> list[BatchResult]:
            return await asyncio.gather(*map(self._publisher.settle, batches))

        batch_results: list[BatchResult] = self._run(settle())
        self._adopt(batches)
        for batch, batch_result in zip(batches, batch_results, strict=True):
            self._check(batch, batch_result)

    def _adopt(self, batches: Sequence[Sequence[tuple[int, SentRow | bytes]]]) -> None:
        """Takes over the pins and failures after two concurrent batches.

        For each key, either batch may have won. Their result must be possible, and the model
        continues with it.
        """
        pins, failures = (
            self._run(self._publisher.pins(self._workspaces)),
            self._run(self._publisher.failures(self._collect_job_ids())),
        )
        rows = {row.name: row for batch in batches for _, row in batch if isinstance(row, SentRow)}
        failing = self._find_failing(list(rows.values()))
        self._model.sent |= rows
        assert pins.items() >= self._model.pins.items()
        assert failures.items() >= self._model.failures.items()
        for key in pins.keys() - self._model.pins.keys():
            # The winner is the first publishable row of its batch
            first_pins = [
                next(
                    (row.name for row in self._publishable(batch, failing) if row.key == key), None
                )
                for batch in batches
            ]
            assert pins[key].origin in first_pins
        for name in failures.keys() - self._model.failures.keys():
            assert name in failing or _is_dead_letter(rows[name], failing)
        self._model.pins, self._model.failures = pins, failures

    def _publishable(
        self, batch: Sequence[tuple[int, SentRow | bytes]], failing: dict[RowId, str]
    ) -> list[SentRow]:
        rows = sort_rows([row for _, row in batch if isinstance(row, SentRow)])
        return [
            row
            for row in rows
            if row.name not in failing
            and row.name not in self._model.failures
            and not _is_dead_letter(row, failing)
        ]

    def _check(
        self, batch: Sequence[tuple[int, SentRow | bytes]], batch_result: BatchResult
    ) -> None:
        rows = [row for _, row in batch if isinstance(row, SentRow)]
        for row in rows:
            report = batch_result.reports[row.name]
            # Between concurrent batches and redeliveries, only the reported ids of a schedule may
            # change
            first = self._first.setdefault(row.name, report)
            assert (report.status, report.error_code, report.payload_matches) == (
                first.status,
                first.error_code,
                first.payload_matches,
            )
            assert report == self._model.report(row)
        assert batch_result.reports.keys() == {row.name for row in rows}
        failing = self._find_failing(rows)
        dead_letters = [
            row if isinstance(row, bytes) else row.value
            for _, row in batch
            if isinstance(row, bytes) or _is_dead_letter(row, failing)
        ]
        assert Counter(batch_result.dead_letters) == Counter(dead_letters)
        self._check_events(rows, batch_result)

    def _check_events(self, rows: Sequence[SentRow], batch_result: BatchResult) -> None:
        created = [
            row for row in sort_rows(rows) if batch_result.reports[row.name].status == "created"
        ]
        unique = list({row.name: row for row in created}.values())
        expected = [
            (
                compute_pin_id(*row.key),
                _find_event_type(row),
            )
            for row in unique
        ]
        assert set(batch_result.events) == set(expected)
        # All events of a workspace are in one partition, which keeps their order
        for workspace_id in self._workspaces:
            ids = {
                compute_pin_id(*row.key) for row in unique if row.event.workspace_id == workspace_id
            }
            in_order = [row for row in dict.fromkeys(batch_result.events) if row[0] in ids]
            assert in_order == [row for row in expected if row[0] in ids]

    # Direct calls and the scheduler

    @rule(workspace=st.integers(0, 1), fields=contents)
    def publish(self, workspace: int, fields: dict[str, Any]) -> None:
        workspace_id = self._workspaces[workspace]
        document = {
            name: value
            for name, value in fields.items()
            if name not in {"account", "damage", "run_at"}
        }
        document = submitted_row(
            **document, account_id=str(self._accounts[workspace_id, fields["account"]])
        )
        key = PinKey(workspace_id, document["idempotency_key"])
        answer = self._run(self._publisher.publish(workspace_id, document))
        assert answer == self._expect_publication(key, document)
        if answer == "created":
            change = "queued" if fields["account"] == CONNECTED else "published"
            self._direct.append(f"{compute_pin_id(*key)}:{change}")
        self._check_store()

    def _expect_publication(self, key: PinKey, document: dict[str, Any]) -> str:
        if pin := self._model.pins.get(key):
            if pin.is_deleted:
                return "pin_deleted"
            return "already_scheduled" if pin.state in {"scheduled", "cancelled"} else "replayed"
        failure = self._find_refusal(
            key.workspace_id, UUID(document["account_id"]), document["board_id"]
        )
        if failure is None:
            sent = PinSubmission.model_validate(document)
            content = Content(sent.account_id, sent.board_id, sent.title)
            is_connected = sent.account_id == self._accounts[key.workspace_id, CONNECTED]
            self._model.publish_directly(
                key, compute_fingerprint(sent), content, is_connected=is_connected
            )
        return failure or "created"

    @rule(
        workspace=st.integers(0, 1),
        key=st.sampled_from(["k1", "k2", "k3"]),
        name=st.sampled_from(COMMANDS),
    )
    def command(self, workspace: int, key: str, name: str) -> None:
        workspace_id = self._workspaces[workspace]
        pin = self._model.pins.get(PinKey(workspace_id, key))
        if pin is not None and pin.is_delivered and pin.state != "scheduled":
            return  # what a command does to a pin that is being delivered is tested elsewhere
        expected, after = self._model.command(name, PinKey(workspace_id, key), datetime.now(UTC))
        assert self._run(self._publisher.command(name, workspace_id, key)) == expected
        if after == "scheduled":
            self._direct.append(f"{compute_pin_id(workspace_id, key)}:scheduled")
        self._check_store()

    @rule(workspace=st.integers(0, 1), key=st.sampled_from(["k1", "k2", "k3"]))
    def deliver(self, workspace: int, key: str) -> None:
        """Takes a step of a delivery. Only the delivery process announces what comes of it."""
        name = PinKey(self._workspaces[workspace], key)
        self._model.deliver(name)
        self._run(self._publisher.deliver(compute_pin_id(*name)))
        self._check_store()

    @rule()
    def publish_due(self) -> None:
        origins = {row.name: row for log in self._logs for row in log if isinstance(row, SentRow)}
        due = {
            key: origins[pin.origin]
            for key, pin in self._model.pins.items()
            if pin.origin in origins
        }
        names = self._find_failing(list(due.values()))
        before = dict(self._model.pins)
        self._run(self._publisher.publish_due())
        self._model.publish_due(
            datetime.now(UTC),
            {key: names[row.name] for key, row in due.items() if row.name in names},
        )
        for key, pin in self._model.pins.items():
            if pin.state != before[key].state:
                self._direct.append(f"{compute_pin_id(*key)}:{pin.state}")
        self._check_store()

    def _collect_job_ids(self) -> list[UUID]:
        return list(
            {row.event.job_id for log in self._logs for row in log if isinstance(row, SentRow)}
        )

    def _check_store(self) -> None:
        assert self._run(self._publisher.pins(self._workspaces)) == self._model.pins
        assert self._run(self._publisher.failures(self._collect_job_ids())) == self._model.failures

    def teardown(self) -> None:
        # One event for each direct call and each due schedule. The id of a failure ends with its
        # time
        waiting = [
            ":".join(row.split(":")[:2])
            for row in self._run(self._publisher.outbox(self._workspaces))
        ]
        assert sorted(waiting) == sorted(self._direct)


def _find_event_type(row: SentRow) -> EventType:
    if row.scheduled_for:
        return EventType.PIN_SCHEDULED
    return EventType.PIN_QUEUED if row.is_connected else EventType.PIN_PUBLISHED


def _is_dead_letter(row: SentRow, failing: dict[RowId, str]) -> bool:
    """Returns whether the row's record goes to the dead letters."""
    return not row.readable or (not row.storable and row.name not in failing)


@pytest.mark.timeout(900)  # Hypothesis shrinks a failure first
def test_invariants_3_4_6_and_7_the_store_matches_its_model_in_any_order(
    pool: Database, run: Run
) -> None:
    publisher = Publisher(pool)

    class Here(Publishing):
        def __init__(self) -> None:
            super().__init__(publisher, run)

    run_state_machine_as_test(Here, settings=examples(20))
