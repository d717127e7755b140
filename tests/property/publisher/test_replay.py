"""After a restore of Postgres, the publisher gives every row the same outcome as before."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from services.publisher.rows.outcome_history_parsing import parse_outcomes
from shared.contract.topics import TopicName
from shared.contract.wire import encode
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.property.conftest import Run
from tests.property.ids import Ids
from tests.property.profiles import examples
from tests.property.publisher.keyed_store import RowId, RowReport, SentRow
from tests.property.publisher.service import Publisher
from tests.property.records import build_consumer_records
from tests.support.factories import row_accepted

ACCEPTED = datetime(2020, 1, 1, tzinfo=UTC)
PARTITIONS = 3

rows = st.fixed_dictionaries(
    {
        "idempotency_key": st.sampled_from(["k1", "k2", "k3", "k4"]),
        "title": st.sampled_from(["A", "B"]),
        "board_id": st.sampled_from(["101", "101", "101", "102"]),
        "account": st.sampled_from(["lasting", "lasting", "revoked"]),
        "run_at": st.sampled_from([None, None, "2090-01-01T00:00:00Z"]),
    }
)
imports = st.lists(
    st.tuples(st.integers(0, PARTITIONS - 1), st.lists(rows, min_size=1, max_size=4)), max_size=8
)


class Scenario(NamedTuple):
    """The steps of an example, in order."""

    before: list[tuple[int, list[dict[str, Any]]]]
    """Imports that are settled before the backup."""
    lost: list[tuple[int, list[dict[str, Any]]]]
    """Imports that are settled after the backup, so that the restore loses them."""
    new: list[tuple[int, list[dict[str, Any]]]]
    """Imports that are settled only after the restore."""
    first_order: list[int]
    """The partitions of the batches before the restore, in order."""
    replay_order: list[int]
    """The partitions of the batches after the restore, in order."""
    batch_size: int
    """Rows per batch in the replay."""
    access_changes: bool
    """True if the missing board is added and an account is revoked before the replay."""
    is_connected: bool
    """True if the accounts were ever connected to Pinterest. Nothing is delivered."""


orders = st.lists(st.integers(0, PARTITIONS - 1), max_size=20)
scenarios = st.builds(
    Scenario,
    imports,
    imports,
    imports,
    orders,
    orders,
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
)


class Simulation:
    """A workspace with a log of rows for each partition, and the outcomes that were sent."""

    def __init__(self, publisher: Publisher, run: Run, database: Database) -> None:
        self.publisher, self.run, self.database = publisher, run, database
        self._ids = Ids()
        self.workspace_id: UUID = run(publisher.operator.create_workspace("Test"))
        self._accounts = {}
        for name in ("lasting", "revoked"):
            account_id = run(publisher.operator.add_account(self.workspace_id, name=name))
            run(publisher.operator.add_board(self.workspace_id, account_id, "101", name="There"))
            self._accounts[name] = account_id
        self.logs: list[list[SentRow]] = [[] for _ in range(PARTITIONS)]
        self.positions = [0] * PARTITIONS
        self.outcomes: list[Any] = []
        """Records of the topic `outcomes`."""
        self._accepted = ACCEPTED

    def send(self, imports: Sequence[tuple[int, list[dict[str, Any]]]]) -> None:
        for partition, contents in imports:
            job_id = self._ids.new()
            self._accepted += timedelta(seconds=1)
            for number, fields in enumerate(contents, 1):
                content = dict(fields)
                account_id = str(self._accounts[content.pop("account")])
                common_fields: dict[str, Any] = {
                    "job_id": job_id,
                    "workspace_id": self.workspace_id,
                    "row_number": number,
                }
                event = row_accepted(
                    **common_fields, accepted_at=self._accepted, account_id=account_id, **content
                )
                self.logs[partition].append(SentRow(event, encode(event)))

    def settle_all(self, order: Sequence[int], batch_size: int) -> dict[RowId, RowReport]:
        """Settles all rows batch by batch: first the partitions of `order`, then the rest."""
        reports: dict[RowId, RowReport] = {}
        rest = (number for number, log in enumerate(self.logs) for _ in log)
        for partition in [*order, *rest]:
            begin = self.positions[partition]
            batch = self.logs[partition][begin : begin + batch_size]
            if not batch:
                continue
            answer = self.run(self.publisher.settle([(partition, row) for row in batch]))
            self.outcomes += answer.outcomes
            self.positions[partition] = begin + len(batch)
            reports |= answer.reports
        return reports

    def change_access(self) -> None:
        """Adds boards and revokes an account, so that a new decision would give other outcomes."""
        for account_id in self._accounts.values():
            self.run(
                self.publisher.operator.add_board(self.workspace_id, account_id, "102", name="Soon")
            )
        self.run(self.publisher.revoke(self._accounts["revoked"]))

    def connect(self) -> None:
        for account_id in self._accounts.values():
            self.run(self.publisher.connect(self.workspace_id, account_id))

    def backup(self) -> "Backup":
        tables = {name: self.run(self._read(name, column)) for name, column in TABLES.items()}
        return Backup(tables, list(self.positions), len(self.outcomes))

    def restore(self, backup: "Backup") -> None:
        """Restores Postgres, and records the outcomes that were sent after the backup."""
        self.run(self._write(backup))
        self.positions = list(backup.positions)
        records = build_consumer_records(TopicName.OUTCOMES, self.outcomes[backup.outcomes :])
        self.run(self.publisher.store.record_outcomes(parse_outcomes(records), Advance()))

    async def _read(self, name: str, column: str) -> str:
        query = text(
            f"select coalesce(json_agg(t), '[]')::text as content from publisher.{name} t where "
            f"{column} = any(:ids)"
        )
        row = await self.database.fetch_first(query.bindparams(ids=self._find_ids(column)))
        return str(row["content"]) if row else "[]"

    async def _write(self, backup: "Backup") -> None:
        async with self.database.transaction() as connection:
            for name, column in TABLES.items():
                delete = text(f"delete from publisher.{name} where {column} = any(:ids)")
                await connection.execute(delete, {"ids": self._find_ids(column)})
                insert = text(
                    f"insert into publisher.{name} select * from "
                    f"json_populate_recordset(null::publisher.{name}, :content)"
                )
                await connection.execute(insert, {"content": backup.tables[name]})

    def _find_ids(self, column: str) -> list[UUID]:
        return (
            [self.workspace_id]
            if column == "workspace_id"
            else [row.event.job_id for log in self.logs for row in log]
        )

    def pins(self) -> dict[str, tuple[Any, ...]]:
        pins = self.run(self.publisher.pins([self.workspace_id]))
        return {
            key.text: (pin.origin, pin.fingerprint, pin.run_at, pin.state)
            for key, pin in pins.items()
        }


TABLES = {"pins": "workspace_id", "row_outcomes": "job_id"}
"""The publisher's tables, and the column that identifies this example's rows."""


class Backup(NamedTuple):
    tables: dict[str, str]
    positions: list[int]
    outcomes: int
    """The number of records in the topic `outcomes`."""


@examples(60)
@given(scenario=scenarios)
def _check_scenario(pool: Database, run: Run, scenario: Scenario) -> None:
    simulation = Simulation(Publisher(pool), run, pool)
    if scenario.is_connected:
        simulation.connect()
    simulation.send(scenario.before)
    first = simulation.settle_all(scenario.first_order, 3)
    backup = simulation.backup()
    simulation.send(scenario.lost)
    first |= simulation.settle_all(scenario.first_order, 4)
    pins = simulation.pins()
    if scenario.access_changes:
        simulation.change_access()
    simulation.restore(backup)
    simulation.send(scenario.new)
    again = simulation.settle_all(scenario.replay_order, scenario.batch_size)
    for name in first.keys() & again.keys():
        assert again[name] == first[name]
    assert simulation.pins().items() >= pins.items()
    _check_that_keys_are_created_once(simulation, first | again)


def _check_that_keys_are_created_once(
    simulation: Simulation, reports: dict[RowId, RowReport]
) -> None:
    creators: dict[str, list[RowId]] = defaultdict(list)
    for log in simulation.logs:
        for row in log:
            if reports[row.name].status == "created":
                creators[row.event.row.idempotency_key].append(row.name)
    assert all(len(names) == 1 for names in creators.values()), creators


def test_invariants_3_and_4_a_replay_after_a_restore_gives_the_same_outcomes(
    pool: Database, run: Run
) -> None:
    _check_scenario(pool, run)
