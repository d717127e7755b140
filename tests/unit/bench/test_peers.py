"""Peers of the benchmark: their rows are checked, and are the same on every path."""

from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest

from shared.postgres.arrays import to_columns
from tests.support.factories import submitted_row
from tests.tools.bench.peers import rows
from tests.tools.bench.peers.connect_sink import FIELDS, build_schema
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
