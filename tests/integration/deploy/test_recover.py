"""`pinflow recover` on real servers: it compares positions, accepts losses and settles rows."""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from psycopg.rows import dict_row
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from deploy.cli.recovery.positions import POSITION_TOPICS, WITHOUT_GROUP, PositionOwner
from services.publisher.rows.outcomes import Outcome
from services.publisher.rows.records import build_outcome_records
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from services.status.folding import group_by_job
from services.status.repository import JobRepository
from shared.access.cache import BoardCache
from shared.contract.events import RowsSettled
from shared.contract.topics import TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.admin import admin_client
from shared.kafka.positions.advance import Advance
from shared.kafka.producer import RecordProducer, choose_partition
from shared.kafka.records import Record
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings, KafkaSettings
from tests.integration.conftest import make_workspace
from tests.support.events import parse_event
from tests.support.factories import row_accepted
from tests.support.infrastructure import Servers, copied_database, fresh_database, fresh_topics
from tests.support.kafka import add_partitions, read_records
from tests.support.waiting import wait_until

PARTITIONS = 2
LONG_AGO = timedelta(hours=1)


@dataclass
class Installation:
    """One installation's topics and database, and an operator who calls `pinflow recover`."""

    settings: KafkaSettings
    database_url: str
    cluster_id: str

    @property
    def names(self) -> TopicNames:
        return TopicNames(self.settings.topic_prefix)

    def run(self, *arguments: str, **variables: str) -> Result:
        environment = {
            "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "PINFLOW_TOPIC_PREFIX": self.settings.topic_prefix,
            "PINFLOW_DATABASE_URL": self.database_url,
        }
        return CliRunner().invoke(app, ["recover", *arguments], env={**environment, **variables})

    def run_json(self, *arguments: str, code: ExitCode = ExitCode.DONE) -> Any:
        """Returns the JSON that the command prints."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def states(
        self, *arguments: str, code: ExitCode = ExitCode.DONE
    ) -> dict[tuple[str, str, int], Any]:
        """Returns the state and the number of records of each partition that is not ok."""
        return {
            (row["service"], self.short(row["topic"]), row["partition"]): (
                row["state"],
                row["records"],
            )
            for row in self.run_json(*arguments, code=code)["partitions"]
            if row["state"] != "ok"
        }

    def short(self, topic: str) -> str:
        return topic.removeprefix(f"{self.settings.topic_prefix}.").rpartition(".")[0]

    def execute(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database_url, row_factory=dict_row) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def positions(self, service: PositionOwner) -> dict[tuple[str, int], dict[str, Any]]:
        rows = self.execute(f"select * from {service}.positions")
        return {(self.short(row["topic"]), row["partition"]): row for row in rows}

    def store_position(
        self,
        service: PositionOwner,
        topic: TopicName,
        partition: int,
        offset: int,
        **fields: Any,
    ) -> None:
        """Stores a position, or replaces the stored one."""
        values = {"cluster_id": self.cluster_id, "replay_until": None, "refused": None, **fields}
        self.execute(
            f"""
            insert into {service}.positions
                (topic, partition, next_offset, cluster_id, replay_until, refused)
            values (%s, %s, %s, %s, %s, %s)
            on conflict (topic, partition) do update set next_offset = excluded.next_offset,
                cluster_id = excluded.cluster_id, replay_until = excluded.replay_until,
                refused = excluded.refused
            """,
            self.names[topic],
            partition,
            offset,
            *values.values(),
        )

    def fill(self, topic: TopicName, count: int) -> None:
        """Adds `count` records to every partition of a topic."""
        keys = {
            choose_partition(b"%d" % number, PARTITIONS): b"%d" % number for number in range(20)
        }
        records = [Record(key, b"{}") for key in keys.values() for _ in range(count)]
        asyncio.run(self._send(topic, records))

    async def _send(self, topic: TopicName, records: Sequence[Record]) -> None:
        producer = RecordProducer(self.settings, client_id="test")
        await producer.start()
        await producer.send(self.names[topic], records)
        await producer.stop()

    def delete_before(self, topic: TopicName, partition: int, offset: int) -> None:
        """Deletes a partition's first records, as retention does."""

        async def delete() -> None:
            async with admin_client(self.settings) as admin:
                key = TopicPartition(self.names[topic], partition)
                await admin.delete_records({key: RecordsToDelete(offset)})

        asyncio.run(delete())

    def add_partitions(self, topic: TopicName, total: int) -> None:
        kafka = self.settings.kafka_bootstrap_servers
        asyncio.run(add_partitions(kafka, self.names[topic], total))

    def commit(self, service: PositionOwner, topic: TopicName, offsets: dict[int, int]) -> None:
        """Commits offsets for a service's group."""

        async def commit() -> None:
            async with create_consumer(self, service) as consumer:
                name = self.names[topic]
                positions = {
                    TopicPartition(name, partition): offset for partition, offset in offsets.items()
                }
                consumer.assign(list(positions))
                await consumer.commit(positions)

        asyncio.run(commit())

    def process_all(self, ends: dict[TopicName, int]) -> None:
        """Stores and commits all positions at these ends, or at 0 for other topics."""
        for service, topics in POSITION_TOPICS.items():
            for topic in topics:
                for partition in range(PARTITIONS):
                    self.store_position(service, topic, partition, ends.get(topic, 0))
                if (service, topic) not in WITHOUT_GROUP:
                    self.commit(
                        service,
                        topic,
                        dict.fromkeys(range(PARTITIONS), ends.get(topic, 0)),
                    )

    def read_sent_results(self) -> list[RowsSettled]:
        """Reads the events that `--fail-lost` has sent to `outcomes`."""
        settings = self.settings
        records = asyncio.run(
            read_records(
                settings.kafka_bootstrap_servers, settings.topic_prefix, TopicName.OUTCOMES
            ),
        )
        return [
            parse_event(RowsSettled, record.value) for record in records if record.value != b"{}"
        ]

    def add_job(
        self,
        settled: str = "",
        total_rows: int = 3,
        *,
        job_id: UUID | None = None,
        age: timedelta = LONG_AGO,
    ) -> dict[str, Any]:
        """Adds an unfinished job. `settled` has a 1 for each of the first rows that are created."""
        (job,) = self.execute(
            """
            insert into status.jobs
                (job_id, workspace_id, accepted_at, total_rows, created_rows, settled, status)
            values (%s, %s, %s, %s, %s, %s::bit(501), %s) returning *
            """,
            job_id or uuid4(),
            uuid4(),
            datetime.now(UTC) - age,
            total_rows,
            settled.count("1"),
            f"0{settled}".ljust(501, "0"),
            "processing" if settled else "queued",
        )
        return job

    def add_pin(self, job: dict[str, Any], row: int, *, run_at: datetime | None = None) -> UUID:
        """Adds the pin that the publisher creates for a row."""
        pin_id = uuid4()
        self.execute(
            PIN,
            pin_id,
            job["workspace_id"],
            uuid4(),
            uuid4(),
            job["job_id"],
            row,
            run_at,
            job["accepted_at"] + timedelta(microseconds=row),
            None if run_at else job["accepted_at"],
            "scheduled" if run_at else "published",
            f"key-{row}",
        )
        return pin_id

    def fold_outcomes(self) -> None:
        """Folds the events in `outcomes`, as status does."""

        async def fold_all() -> None:
            settings = DatabaseSettings(database_url=SecretStr(self.database_url))
            database = Database.from_settings(settings, application="tests")
            for event in events:
                await JobRepository(database).fold(group_by_job([event]), Advance(), moves=False)
            await database.dispose()

        events = self.read_sent_results()
        asyncio.run(fold_all())


PIN = """
    insert into publisher.pins (pin_id, workspace_id, account_id, fingerprint, origin_job_id,
        origin_row, run_at, created_at, published_at, state, idempotency_key, board_id, title)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'board-1', 'Lamp')
"""

WAITING = """
    select pid from pg_stat_activity
    where wait_event_type = 'Lock' and datname = current_database()
"""


def create_consumer(installation: Installation, service: PositionOwner) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=installation.settings.kafka_bootstrap_servers,
        group_id=installation.names.group(service),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )


async def read_cluster_id(settings: KafkaSettings) -> str:
    async with admin_client(settings) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


@pytest.fixture
def installation(stack: Servers) -> Iterator[Installation]:
    kafka = stack.kafka_bootstrap_servers
    with (
        fresh_topics(kafka, topic_partitions=PARTITIONS) as prefix,
        fresh_database(stack.database_url) as url,
    ):
        settings = KafkaSettings(kafka_bootstrap_servers=kafka, topic_prefix=prefix)
        yield Installation(settings, url, asyncio.run(read_cluster_id(settings)))


@pytest.fixture
def processed(installation: Installation) -> Installation:
    """An installation whose services have processed all records: 10 in each partition."""
    for topic in (TopicName.IMPORTS, TopicName.OUTCOMES, TopicName.PIN_EVENTS):
        installation.fill(topic, 10)
    ends = dict.fromkeys((TopicName.IMPORTS, TopicName.OUTCOMES, TopicName.PIN_EVENTS), 10)
    installation.process_all(ends)
    return installation


def test_an_empty_installation_has_nothing_to_recover(installation: Installation) -> None:
    result = installation.run()
    assert (result.exit_code, result.output) == (
        ExitCode.DONE,
        "There is nothing to recover: no service has stored a position yet.\n",
    )
    assert installation.run("--accept").exit_code == ExitCode.DONE


def test_an_installation_without_loss_needs_nothing(processed: Installation) -> None:
    result = processed.run()
    assert (result.exit_code, result.output) == (
        ExitCode.DONE,
        "14 partitions compared. There is no loss to accept.\n",
    )
    assert processed.run("--all").output.count(" ok") == 14
    assert processed.run_json()["counts"] == {
        "ok": 14,
        "behind": 0,
        "lost": 0,
        "ahead": 0,
        "foreign": 0,
        "new": 0,
    }


def test_each_partition_that_is_not_ok_is_shown_with_its_number_of_records(
    processed: Installation,
) -> None:
    processed.store_position(PositionOwner.PUBLISHER, TopicName.IMPORTS, 0, 4)
    processed.store_position(PositionOwner.STATUS, TopicName.IMPORTS, 0, 15)
    processed.store_position(PositionOwner.STATUS, TopicName.OUTCOMES, 1, 10, cluster_id="another")
    processed.store_position(PositionOwner.WEBHOOKS, TopicName.PIN_EVENTS, 0, 2)
    processed.execute(
        "delete from webhooks.positions where topic = %s",
        processed.names[TopicName.JOB_EVENTS],
    )
    processed.store_position(PositionOwner.PUBLISHER, TopicName.OUTCOMES, 0, 3)
    processed.delete_before(TopicName.PIN_EVENTS, 0, 7)
    processed.delete_before(TopicName.OUTCOMES, 0, 5)
    assert processed.states(code=ExitCode.LOSS_NOT_ACCEPTED) == {
        ("publisher", "imports", 0): ("behind", 6),
        ("publisher", "outcomes", 0): ("lost", 2),
        ("status", "imports", 0): ("ahead", 5),
        ("status", "outcomes", 1): ("foreign", None),
        ("webhooks", "pin-events", 0): ("lost", 5),
        ("webhooks", "job-events", 0): ("new", 0),
        ("webhooks", "job-events", 1): ("new", 0),
    }
    table = processed.run().output
    assert (
        table.count(processed.names[TopicName.PIN_EVENTS]) == 2
    )  # in one line of the table and one sentence
    assert "publisher: Postgres is older than Kafka. 6 records of" in table
    assert "pinflow recover --accept" in table


def test_a_replay_that_has_begun_is_behind_until_its_end(processed: Installation) -> None:
    processed.store_position(PositionOwner.STATUS, TopicName.IMPORTS, 0, 4, replay_until=9)
    processed.commit(PositionOwner.STATUS, TopicName.IMPORTS, {0: 4})
    assert processed.states() == {("status", "imports", 0): ("behind", 5)}


def test_a_stored_refusal_stays_after_the_log_has_grown_past_the_position(
    processed: Installation,
) -> None:
    processed.store_position(PositionOwner.STATUS, TopicName.IMPORTS, 0, 8, refused="beyond_end")
    assert processed.states(code=ExitCode.LOSS_NOT_ACCEPTED) == {
        ("status", "imports", 0): ("ahead", None)
    }


def test_a_partition_without_a_position_is_new(processed: Installation) -> None:
    processed.add_partitions(TopicName.IMPORTS, PARTITIONS + 1)
    assert processed.states() == {
        ("publisher", "imports", 2): ("new", 0),
        ("status", "imports", 2): ("new", 0),
    }


def test_a_service_without_positions_will_start_at_its_groups_offsets_after_an_upgrade(
    processed: Installation,
) -> None:
    processed.store_position(PositionOwner.WEBHOOKS, TopicName.JOB_EVENTS, 0, 0)
    processed.execute("delete from status.positions")
    processed.execute("insert into status.position_seed default values")
    report = processed.run_json()
    assert report["counts"]["new"] == 4
    assert "will start at the offsets that its group has committed" in report["summary"][0]


def test_a_loss_is_accepted_by_reading_from_the_logs_beginning(processed: Installation) -> None:
    processed.store_position(
        PositionOwner.PUBLISHER, TopicName.IMPORTS, 0, 2, refused="before_begin", replay_until=9
    )
    processed.store_position(
        PositionOwner.STATUS,
        TopicName.IMPORTS,
        1,
        10,
        cluster_id="another",
        refused="other_cluster",
    )
    processed.delete_before(TopicName.IMPORTS, 0, 5)
    before = processed.positions(PositionOwner.STATUS)
    report = processed.run_json("--accept", "--yes")
    names = ("service", "partition", "was", "now")
    assert [tuple(loss[name] for name in names) for loss in report["accepted"]] == [
        ("publisher", 0, 2, 5),
        ("status", 1, 10, 0),
    ]
    now = processed.positions(PositionOwner.PUBLISHER)["imports", 0]
    assert (now["next_offset"], now["refused"], now["replay_until"]) == (5, None, None)
    moved = processed.positions(PositionOwner.STATUS)["imports", 1]
    assert (moved["next_offset"], moved["refused"], moved["cluster_id"]) == (
        0,
        None,
        processed.cluster_id,
    )
    # Positions that were ok are not changed
    untouched = {place: row for place, row in before.items() if place != ("imports", 1)}
    after = processed.positions(PositionOwner.STATUS)
    assert {place: after[place] for place in untouched} == untouched
    # The group's committed offset is higher: rows are processed again
    assert processed.states() == {
        ("publisher", "imports", 0): ("behind", 5),
        ("status", "imports", 1): ("behind", 10),
    }


def test_only_losses_that_the_options_select_are_accepted(processed: Installation) -> None:
    for partition in range(PARTITIONS):
        processed.store_position(PositionOwner.STATUS, TopicName.IMPORTS, partition, 12)
        processed.store_position(PositionOwner.PUBLISHER, TopicName.IMPORTS, partition, 12)
    filters = ("--service", "status", "--topic", "imports", "--partition", "1")
    assert len(processed.states(*filters, code=ExitCode.LOSS_NOT_ACCEPTED)) == 1
    result = processed.run("--accept", "--yes", *filters)
    assert (result.exit_code, "status" in result.output, "12 → 0" in result.output) == (
        ExitCode.DONE,
        True,
        True,
    )
    assert "Your options leave out 3 partitions with a loss to accept." in result.output
    assert {
        place: state
        for place, (state, _) in processed.states(code=ExitCode.LOSS_NOT_ACCEPTED).items()
    } == {
        ("status", "imports", 0): "ahead",
        ("status", "imports", 1): "behind",
        ("publisher", "imports", 0): "ahead",
        ("publisher", "imports", 1): "ahead",
    }


def test_nothing_is_accepted_without_the_operators_confirmation(processed: Installation) -> None:
    processed.store_position(PositionOwner.STATUS, TopicName.IMPORTS, 0, 12)
    before = processed.positions(PositionOwner.STATUS)
    for arguments in ((), ("--json",), ("--accept",), ("--accept", "--json")):
        result = processed.run(*arguments)
        assert result.exit_code == (
            ExitCode.REFUSED if "--accept" in arguments else ExitCode.LOSS_NOT_ACCEPTED
        )
    assert "Nothing was changed" in result.output
    assert processed.positions(PositionOwner.STATUS) == before


def test_positions_in_partitions_that_kafka_no_longer_has_are_deleted(
    processed: Installation,
) -> None:
    processed.store_position(PositionOwner.STATUS, TopicName.OUTCOMES, 5, 44)
    assert processed.states(code=ExitCode.LOSS_NOT_ACCEPTED) == {
        ("status", "outcomes", 5): ("ahead", 44)
    }
    result = processed.run("--accept", "--yes")
    assert "position was deleted" in result.output
    assert ("outcomes", 5) not in processed.positions(PositionOwner.STATUS)
    assert processed.states() == {}


def test_a_committed_offset_beyond_the_end_shows_that_records_are_lost(
    processed: Installation,
) -> None:
    processed.commit(PositionOwner.STATUS, TopicName.IMPORTS, {0: 25})
    processed.store_position(PositionOwner.STATUS, TopicName.IMPORTS, 0, 7)
    report = processed.run_json()
    assert "Kafka lost at least 15 of the last records" in report["summary"][1]
    assert processed.states() == {("status", "imports", 0): ("behind", 3)}


def test_unfinished_jobs_are_listed_if_a_loss_must_be_accepted(processed: Installation) -> None:
    jobs = [processed.add_job("1", age=LONG_AGO * (20 - number)) for number in range(12)]
    processed.execute(
        "insert into status.jobs (job_id, workspace_id) values (%s, %s)",
        uuid4(),
        uuid4(),
    )
    assert processed.run_json()["unfinished"] is None
    processed.store_position(PositionOwner.STATUS, TopicName.IMPORTS, 0, 12)
    assert processed.run_json(code=ExitCode.LOSS_NOT_ACCEPTED)["unfinished"] == {
        "jobs": 12,
        "rows": 24,
        "without_import": 1,
        "job_ids": [str(job["job_id"]) for job in jobs],
    }
    output = processed.run().output
    assert "12 unfinished jobs with 24 rows" in output
    assert [str(job["job_id"]) in output for job in jobs] == [True] * 10 + [False] * 2


def test_an_unavailable_server_or_a_missing_table_is_reported_with_the_next_step(
    installation: Installation,
    stack: Servers,
) -> None:
    without_kafka = installation.run(PINFLOW_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    assert without_kafka.exit_code == ExitCode.UNAVAILABLE
    assert "Kafka does not answer" in without_kafka.output
    without_postgres = installation.run(
        PINFLOW_DATABASE_URL="postgresql://nobody@127.0.0.1:9/pinflow"
    )
    assert without_postgres.exit_code == ExitCode.UNAVAILABLE
    assert "Can't use Postgres" in without_postgres.output
    without_topics = installation.run(PINFLOW_TOPIC_PREFIX="never-made")
    assert without_topics.exit_code == ExitCode.REFUSED
    assert "pinflow topics create" in without_topics.output
    assert "never-made.imports.v2" in without_topics.output
    with copied_database(stack.database_url) as empty:
        not_migrated = installation.run(PINFLOW_DATABASE_URL=empty)
    assert (not_migrated.exit_code, "pinflow migrate" in not_migrated.output) == (
        ExitCode.REFUSED,
        True,
    ), not_migrated.output


def test_invariant_2_rows_that_kafka_lost_settle_exactly_once(processed: Installation) -> None:
    job = processed.add_job("1", total_rows=6)
    published = processed.add_pin(job, 2)
    scheduled = processed.add_pin(job, 3, run_at=datetime.now(UTC) + timedelta(days=9))
    other = uuid4()
    differing_fields = '[{"field":"title","stored":"Lamp","sent":"Lamps"}]'
    record(
        processed,
        job,
        4,
        "existing",
        pin_id=other,
        payload_matches=False,
        existing_state="canceled",
        differing_fields=differing_fields,
    )
    record(processed, job, 5, "failed", error_code="board_not_found", error_message="board_id: no")
    report = processed.run_json("--fail-lost", "--yes")
    assert (report["jobs"], report["rows"]) == (1, 5)
    assert report["settled"] == {"created": 2, "existing": 1, "failed": 2}
    (event,) = processed.read_sent_results()
    assert (event.job_id, event.workspace_id) == (job["job_id"], job["workspace_id"])
    results = {result.row_number: result for result in event.results}
    assert (results[2].status, results[2].pin_id, results[2].idempotency_key) == (
        "created",
        published,
        "key-2",
    )
    assert (results[3].status, results[3].pin_id) == ("created", None)
    assert results[3].schedule_id is not None
    assert results[3].schedule_id != scheduled
    assert (results[4].status, results[4].pin_id) == ("existing", other)
    assert results[4].existing_state == "canceled"
    assert encode(results[4].differing_fields).decode() == differing_fields
    assert (results[5].status, results[5].error_code) == ("failed", "board_not_found")
    assert (results[6].status, results[6].error_code) == ("failed", "row_lost")
    # Recorded, so that the row stays failed even if Kafka has it again later
    (lost,) = processed.execute(
        "select * from publisher.row_outcomes where error_code = 'row_lost'"
    )
    assert (lost["job_id"], lost["row_number"], lost["status"]) == (job["job_id"], 6, "failed")
    processed.fold_outcomes()
    (ended,) = processed.execute("select * from status.jobs")
    assert ended["completed_at"] is not None
    assert (ended["created_rows"], ended["existing_rows"], ended["failed_rows"]) == (3, 1, 2)


def test_invariant_4_failing_lost_rows_twice_reports_the_same_results(
    processed: Installation,
) -> None:
    job = processed.add_job(total_rows=2)
    processed.add_pin(job, 1)
    assert processed.run_json("--fail-lost", "--yes")["settled"] == {"created": 1, "failed": 1}
    result = processed.run("--fail-lost", "--yes", "--wait", "0")
    assert result.exit_code == ExitCode.UNAVAILABLE  # status has not read it
    first = processed.read_sent_results()
    for partition in range(PARTITIONS):
        process_to_end(processed, partition)
    assert processed.run_json("--fail-lost", "--yes")["settled"] == {"created": 1, "failed": 1}
    assert processed.read_sent_results() == first * 2
    processed.fold_outcomes()
    (ended,) = processed.execute("select * from status.jobs")
    assert (ended["created_rows"], ended["failed_rows"], ended["total_rows"]) == (1, 1, 2)


def test_keys_that_are_reserved_for_lost_rows_are_freed(processed: Installation) -> None:
    job = processed.add_job(total_rows=2)
    record(processed, job, 1, "created", pin_id=(gone := uuid4()), promised_pin_id=gone)
    kept = processed.add_pin(job, 2)
    record(processed, job, 2, "created", pin_id=kept, promised_pin_id=kept)
    report = processed.run_json("--fail-lost", "--yes")
    assert (report["reserved_keys"], report["freed_keys"]) == (1, 1)
    assert report["settled"] == {"created": 2}
    rows = processed.execute(
        "select promised_pin_id from publisher.row_outcomes order by row_number"
    )
    assert [row["promised_pin_id"] for row in rows] == [None, kept]


def test_young_imports_are_not_settled(processed: Installation) -> None:
    processed.add_job(age=timedelta(minutes=5))
    assert processed.run_json("--fail-lost", "--yes")["rows"] == 0
    assert processed.run_json("--fail-lost", "--yes", "--older-than", "3")["settled"] == {
        "failed": 3
    }


@pytest.mark.parametrize(
    ("service", "topic", "offset", "fields", "message"),
    [
        (PositionOwner.PUBLISHER, TopicName.IMPORTS, 9, {}, "records wait in publisher"),
        (PositionOwner.STATUS, TopicName.OUTCOMES, 9, {}, "records wait in status"),
        (PositionOwner.PUBLISHER, TopicName.OUTCOMES, 9, {}, "records wait in publisher"),
    ],
)
def test_lost_rows_are_not_failed_while_services_have_records_to_read(
    processed: Installation,
    service: PositionOwner,
    topic: TopicName,
    offset: int,
    fields: Any,
    message: str,
) -> None:
    processed.add_job()
    processed.store_position(service, topic, 0, offset, **fields)
    result = processed.run("--fail-lost", "--yes", "--wait", "0")
    assert (result.exit_code, message in result.output) == (ExitCode.UNAVAILABLE, True), (
        result.output
    )
    assert processed.read_sent_results() == []


def test_a_loss_must_be_accepted_before_lost_rows_are_settled(processed: Installation) -> None:
    processed.add_job()
    processed.store_position(
        PositionOwner.WEBHOOKS, TopicName.PIN_EVENTS, 0, 10, refused="beyond_end"
    )
    result = processed.run("--fail-lost", "--yes", "--wait", "0")
    assert result.exit_code == ExitCode.LOSS_NOT_ACCEPTED, result.output
    assert "pinflow recover --accept" in result.output
    assert processed.read_sent_results() == []


def test_lost_rows_are_not_failed_while_outcomes_are_not_sent(processed: Installation) -> None:
    """The publisher stores its position before it sends outcomes, and commits its offset after."""
    processed.commit(PositionOwner.PUBLISHER, TopicName.IMPORTS, {0: 9})
    processed.add_job()
    result = processed.run("--fail-lost", "--yes", "--wait", "0")
    assert (result.exit_code, "records wait in publisher" in result.output) == (
        ExitCode.UNAVAILABLE,
        True,
    )


def test_fail_lost_asks_first_and_refuses_filters(processed: Installation) -> None:
    processed.add_job()
    result = processed.run("--fail-lost")
    assert (result.exit_code, "add --yes" in result.output) == (ExitCode.REFUSED, True)
    assert "3 rows without a result" in result.output
    assert processed.run("--fail-lost", "--accept").exit_code == ExitCode.REFUSED
    assert processed.run("--fail-lost", "--service", "status").exit_code == ExitCode.REFUSED
    assert processed.read_sent_results() == []


def test_invariant_3_a_row_that_is_published_meanwhile_is_created(processed: Installation) -> None:
    """A batch locks the publisher's positions. Settling lost rows waits for its end."""
    job = processed.add_job(total_rows=1)
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(processed.run("--fail-lost", "--yes")))
    with psycopg.connect(processed.database_url) as batch:
        batch.execute("select from publisher.positions order by topic, partition for update")
        thread.start()
        wait_until(lambda: results or processed.execute(WAITING))
        assert not results, results[0].output
        pin_id = processed.add_pin(job, 1)
    thread.join(timeout=30)
    assert results[0].exit_code == ExitCode.DONE, results[0].output
    ((event,), recorded) = (
        processed.read_sent_results(),
        processed.execute("select job_id from publisher.row_outcomes"),
    )
    assert [(result.status, result.pin_id) for result in event.results] == [("created", pin_id)]
    assert recorded == []


def test_invariant_3_a_lost_row_that_kafka_has_again_is_not_published(
    processed: Installation,
) -> None:
    async def settle_late() -> list[Outcome]:
        settings = DatabaseSettings(database_url=SecretStr(processed.database_url))
        database = Database.from_settings(settings, application="tests")
        workspace = await make_workspace(database)
        row = row_accepted(
            job_id=job["job_id"],
            workspace_id=workspace.id,
            account_id=str(workspace.account_id),
        )
        settler = RowService(RowRepository(database), BoardCache(workspace.access))
        settlement = await settler.settle([row], [], advance=Advance())
        await database.dispose()
        return settlement.outcomes

    job = processed.add_job(total_rows=1)
    assert processed.run_json("--fail-lost", "--yes")["settled"] == {"failed": 1}
    (outcome,) = asyncio.run(settle_late())
    (event,) = (
        parse_event(RowsSettled, record.value) for record in build_outcome_records([outcome])
    )
    assert [(result.status, result.error_code) for result in event.results] == [
        ("failed", "row_lost")
    ]
    assert processed.execute("select pin_id from publisher.pins") == []


def record(
    installation: Installation,
    job: dict[str, Any],
    row: int,
    status: str,
    **fields: Any,
) -> None:
    """Records an outcome as the publisher does."""
    values = {"job_id": job["job_id"], "row_number": row, "status": status, **fields}
    columns, placeholders = ", ".join(values), ", ".join(["%s"] * len(values))
    installation.execute(
        f"insert into publisher.row_outcomes ({columns}) values ({placeholders})",
        *values.values(),
    )


def process_to_end(installation: Installation, partition: int) -> None:
    """Moves the positions of status and the publisher in `outcomes` to its end."""
    filters = ("--topic", "outcomes", "--service", "status", "--partition", str(partition))
    (position,) = installation.run_json("--all", *filters)["partitions"]
    installation.store_position(
        PositionOwner.STATUS, TopicName.OUTCOMES, partition, position["end"]
    )
    installation.store_position(
        PositionOwner.PUBLISHER, TopicName.OUTCOMES, partition, position["end"]
    )
    installation.commit(PositionOwner.STATUS, TopicName.OUTCOMES, {partition: position["end"]})
