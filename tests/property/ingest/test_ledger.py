"""Requests by topic on the real ledger: each stays the same job, byte for byte, whatever fails."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from deploy.administration import OperatorRepository
from services.ingest.admission.control import AdmissionControl
from services.ingest.config import IngestSettings
from services.ingest.consumers import ImportRequestHandler
from services.ingest.import_request_service import ImportRequestService
from services.ingest.ledger import Claim, LedgerEntry, RequestKey
from services.ingest.records import ImportBatch
from services.ingest.repository import PostgresRequestLedger
from shared.access.cache import WorkspaceCache
from shared.access.repository import AccessRepository
from shared.contract.cloudevents import EventType
from shared.contract.errors import (
    AcceptanceUnknown,
    BrokerUnavailable,
    DatabaseUnavailable,
    Unavailable,
)
from shared.contract.events import ImportRejected
from shared.contract.topics import TopicName
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.property.conftest import Run
from tests.property.ids import Ids
from tests.property.profiles import examples
from tests.property.records import build_consumer_record
from tests.support.factories import submitted_row
from tests.support.import_batches import read_import
from tests.support.imports import new_reader

HEADERS = [("ce_type", EventType.IMPORT_REQUESTED.encode())]
BODIES: tuple[Any, ...] = (
    [submitted_row(idempotency_key="k")],
    [submitted_row(idempotency_key="k"), {}],
    [],
    "no rows",
)
FAULTS = ("nothing was appended", "the answer was lost", "the mark was lost")


class FaultyLog:
    """Keeps appended batches. Some appends fail before or after they take effect."""

    def __init__(self) -> None:
        self.appended: list[ImportBatch] = []
        self.faults: list[str | None] = []

    async def append(self, batch: ImportBatch, _started: float | None = None) -> None:
        fault = self.faults.pop() if self.faults else None
        if fault == "nothing was appended":
            raise BrokerUnavailable(fault)
        self.appended.append(batch)
        if fault == "the answer was lost":
            raise AcceptanceUnknown(fault)


class ForgetfulLedger(PostgresRequestLedger):
    """The real ledger, which fails to mark requests while `forgets` is set."""

    forgets = False

    async def mark_committed(self, keys: Any) -> None:
        if self.forgets:
            raise DatabaseUnavailable("the mark was lost")
        await super().mark_committed(keys)


class RequestMachine(RuleBasedStateMachine):
    """Delivers random batches of requests, with faults, and checks what is appended.

    `_first` has the first body of each key. `_done` has the committed keys, which must never be
    appended again.
    """

    def __init__(self, pool: Database, run: Run) -> None:
        super().__init__()
        self._pool, self._run = pool, run
        self._ids = Ids()
        self._first: dict[tuple[UUID, str], bytes] = {}
        self._done: set[tuple[UUID, str]] = set()
        self._appended: dict[tuple[UUID, str], ImportBatch] = {}

    @initialize()
    def make_workspaces(self) -> None:
        operator, access = OperatorRepository(self._pool), AccessRepository(self._pool)
        self._workspaces = [self._run(operator.create_workspace("Test")) for _ in range(2)]
        self._unknown = self._ids.new()
        self._kafka, self._ledger = FaultyLog(), ForgetfulLedger(self._pool)
        settings = IngestSettings(imports_at_once=2)
        self._handler = ImportRequestHandler(
            ImportRequestService(
                self._ledger,
                WorkspaceCache(access),
                self._kafka,
                AdmissionControl(settings),
                new_reader(),
                settings,
            )
        )

    @rule(
        requested=st.lists(
            st.tuples(
                st.integers(0, 2),
                st.sampled_from(["a", "b", "ä'\\\"", "c" * 255]),
                st.integers(0, 3),
            ),
            max_size=5,
        ),
        faults=st.lists(st.none() | st.sampled_from(FAULTS[:2]), max_size=4),
        forgets=st.booleans(),
    )
    def deliver(
        self, requested: list[tuple[int, str, int]], faults: list[str | None], *, forgets: bool
    ) -> None:
        """Delivers a batch. Its requests may be delivered again, whether it succeeds or fails."""
        batch = [self._request(workspace, name, body) for workspace, name, body in requested]
        self._kafka.faults, self._kafka.appended = list(faults), []
        self._ledger.forgets = forgets
        dead_letters = self._process(batch)
        for (workspace_id, name), value in batch:
            if workspace_id != self._unknown:
                self._first.setdefault((workspace_id, name), value)
        self._check_appended({key for key, _ in batch})
        if dead_letters is not None:
            wrong = [value for key, value in batch if value != self._first.get(key)]
            assert dead_letters == sorted(wrong)
            self._done |= {key for key, value in batch if value == self._first.get(key)}
        elif not forgets:
            self._done |= self._read_committed()

    def _request(self, workspace: int, name: str, body: int) -> tuple[tuple[UUID, str], bytes]:
        workspace_id = [*self._workspaces, self._unknown][workspace]
        document = {
            "request_id": name,
            "workspace_id": str(workspace_id),
            "source": "planner",
            "rows": BODIES[body],
        }
        return (workspace_id, name), json.dumps(document).encode()

    def _process(self, batch: Sequence[tuple[tuple[UUID, str], bytes]]) -> list[bytes] | None:
        """Returns the values of the dead letters, or None if the batch must be retried."""
        records = [
            build_consumer_record(TopicName.IMPORT_REQUESTS, value, headers=HEADERS)
            for _, value in batch
        ]
        try:
            decoded, poison = self._handler.decode(records)
            dead_letters = self._run(self._handler.process(decoded, poison, Advance()))
        except Unavailable:
            return None
        return sorted(dead_letter.record.value for dead_letter in dead_letters)

    def _check_appended(self, requested: set[tuple[UUID, str]]) -> None:
        for batch in self._kafka.appended:
            announced = read_import(batch)
            key = (announced.workspace_id, announced.request_id or "")
            assert key in requested - self._done
            assert self._appended.setdefault(key, batch) == batch
            rows = json.loads(self._first[key])["rows"]
            assert isinstance(announced, ImportRejected) is (not isinstance(rows, list) or not rows)

    def _read_committed(self) -> set[tuple[UUID, str]]:
        """Reads the committed keys as another replica would: by claiming all of them again."""
        claims = [
            Claim(RequestKey(*key), b"", self._ids.new(), announced_at(self._appended[key]))
            for key in self._appended
        ]
        entries: dict[RequestKey, LedgerEntry] = self._run(self._ledger.claim(claims))
        committed = (key for key, entry in entries.items() if entry.is_committed)
        return {(key.workspace_id, key.request_id) for key in committed}


def announced_at(batch: ImportBatch) -> Any:
    return read_import(batch).accepted_at


@pytest.mark.timeout(900)  # Hypothesis shrinks a failure first
def test_invariants_1_and_2_a_request_by_topic_is_one_job_whatever_fails_in_between(
    pool: Database, run: Run
) -> None:
    class BoundMachine(RequestMachine):
        def __init__(self) -> None:
            super().__init__(pool, run)

    run_state_machine_as_test(BoundMachine, settings=examples(15))
