"""Peers of the benchmark: their rows are checked, and are the same on every path."""

from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest

from shared.contract.topics import TopicName
from shared.postgres.arrays import to_columns
from tests.support.factories import submitted_row
from tests.tools.bench.peers import rows
from tests.tools.bench.peers.connect_sink import FIELDS, build_schema
from tests.tools.bench.peers.equal_work.events import build_events, build_records, pack
from tests.tools.bench.peers.equal_work.judge import (
    JobCounters,
    find_event_faults,
    find_lost_imports,
)
from tests.tools.bench.peers.equal_work.outcomes import Import, Stored, decide
from tests.tools.bench.peers.exactness import find_faults
from tests.tools.bench.peers.store import COLUMNS

WORKSPACE, JOB = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_exactly_the_sent_rows_have_no_faults() -> None:
    assert find_faults({"a": 500, "b": 20}, {"a": 500, "b": 20}, 520) == []


@pytest.mark.parametrize(
    ("stored", "counted", "fault"),
    [
        ({"a": 499}, 500, "1 rows lost, in 1 imports (a)"),
        ({}, 500, "500 rows lost, in 1 imports (a)"),
        ({"a": 501}, 500, "1 rows that nobody sent, in 1 imports (a)"),
        ({"a": 500, "x": 3}, 500, "3 rows that nobody sent, in 1 imports (x)"),
        ({"a": 500}, 499, "the jobs count 499 rows, but 500 were sent"),
    ],
)
def test_every_difference_is_reported(stored: dict[str, int], counted: int, fault: str) -> None:
    assert find_faults({"a": 500}, stored, counted) == [fault]


COUNTERS = (500, 480, 15, 5)


def test_pins_and_jobs_that_were_all_announced_have_no_faults() -> None:
    announced = ["a:published", "b:scheduled", "a:published"]
    jobs = [(JOB, COUNTERS), (JOB, COUNTERS)]
    assert find_event_faults(set(announced), announced, {JOB: COUNTERS}, jobs) == []


@pytest.mark.parametrize(
    ("announced", "jobs", "fault"),
    [
        (["a"], [(JOB, COUNTERS)], "1 pins were not announced"),
        (["a", "b", "c"], [(JOB, COUNTERS)], "1 announced pins do not exist"),
        (["a", "b"], [], "1 jobs were not announced"),
        (["a", "b"], [(JOB, (500, 480, 14, 6))], "1 events of jobs differ from their job"),
    ],
)
def test_every_missing_or_wrong_event_is_reported(
    announced: list[str], jobs: list[tuple[UUID, JobCounters]], fault: str
) -> None:
    assert find_event_faults({"a", "b"}, announced, {JOB: COUNTERS}, jobs) == [fault]


def test_a_lost_import_is_reported() -> None:
    assert find_lost_imports({JOB: 500}, {JOB: COUNTERS}) == []
    assert find_lost_imports({JOB: 500}, {}) == ["1 accepted imports were lost"]
    assert find_lost_imports({JOB: 499}, {JOB: COUNTERS}) == ["1 jobs have another total"]


def test_the_outbox_keeps_every_event_and_its_topic() -> None:
    parsed = rows.parse(
        orjson.dumps(
            [
                submitted_row(),
                submitted_row(run_at="2027-01-01T10:00:00+02:00"),
                submitted_row(title=""),
            ]
        )
    )
    import_ = Import(JOB, WORKSPACE, NOW, parsed.to_queued(), parsed.failures)
    pin_ids = {1: UUID(int=11), 2: UUID(int=12)}
    results = decide(import_, pin_ids, Stored(NOW, [1, 2], {}, {}))
    assert [result.status for result in results] == ["created", "created", "failed"]
    records = build_records(WORKSPACE, pack(build_events(import_, results, pin_ids, NOW)))
    assert [(topic, dict(record.headers)["ce_id"]) for topic, record in records] == [
        (TopicName.PIN_EVENTS, f"{pin_ids[1]}:published".encode()),
        (TopicName.PIN_EVENTS, f"{pin_ids[2]}:scheduled".encode()),
        (TopicName.JOB_EVENTS, f"{JOB}:completed".encode()),
    ]
    completed = orjson.loads(records[-1][1].value)
    assert (completed["status"], completed["created_rows"], completed["failed_rows"]) == (
        *("completed_with_errors", 2),
        1,
    )
    assert {record.key for _, record in records} == {str(WORKSPACE).encode()}


def test_a_row_is_unchanged_by_a_queue() -> None:
    sent = [
        submitted_row(run_at="2027-01-01T10:00:00+02:00", related_terms=["lamp", "desk"]),
        submitted_row(idempotency_key="other"),
    ]
    parsed = rows.parse(orjson.dumps(sent))
    directly = rows.build_values(WORKSPACE, JOB, NOW, parsed.to_queued())
    queued = rows.build_values(
        WORKSPACE, JOB, NOW, rows.parse_queued(orjson.loads(orjson.dumps(parsed.to_queued())))
    )
    assert queued == directly
    assert len(to_columns(COLUMNS, directly)) == len(COLUMNS)


def test_invalid_rows_are_counted_and_the_others_keep_their_numbers() -> None:
    parsed = rows.parse(
        orjson.dumps(
            [submitted_row(), submitted_row(title=""), submitted_row(idempotency_key="third")]
        )
    )
    assert [number for number, *_ in parsed.to_queued()] == [1, 3]
    assert (parsed.total, parsed.failed) == (3, 1)


def test_the_schema_for_kafka_connect_has_every_column() -> None:
    assert [field["field"] for field in orjson.loads(build_schema())["fields"]] == [
        name for name, _ in FIELDS
    ]
