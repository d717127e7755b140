"""The records of the topic `deliveries` are read as they were written."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.publisher.delivery.log.records import (
    SettledAttempt,
    build_attempted_record,
    build_settled_record,
    parse_entries,
)
from services.publisher.delivery.model import AttemptOutcome, ComparedTexts, DeliveryAttempt

NOW = datetime(2026, 12, 1, 12, 30, 0, 123456, tzinfo=UTC)
ATTEMPT = DeliveryAttempt(
    attempt_id=uuid4(),
    pin_id=uuid4(),
    number=2,
    workspace_id=uuid4(),
    account_id=uuid4(),
    mode="simulated",
    fence=7,
    board_id="549755885175",
    texts=ComparedTexts("Lamp", None, "A lamp", "https://shop.example/lamp"),
    started_at=NOW,
    deadline_at=NOW + timedelta(seconds=30),
)


def test_an_attempt_is_read_as_it_was_announced() -> None:
    record = build_attempted_record(ATTEMPT)
    assert record.key == str(ATTEMPT.account_id).encode()
    entries = parse_entries([record.value, record.value])
    assert list(entries.attempts.values()) == [ATTEMPT]
    assert entries.settled == {}


def test_the_first_outcome_of_an_attempt_counts() -> None:
    values = [
        build_settled_record(ATTEMPT, outcome, pin, NOW).value
        for outcome, pin in [(AttemptOutcome.FOUND, "1"), (AttemptOutcome.ABSENT, None)]
    ]
    assert list(parse_entries(values).settled.values()) == [
        SettledAttempt(ATTEMPT.attempt_id, AttemptOutcome.FOUND, "1", NOW)
    ]


@pytest.mark.parametrize("first_outcome", [AttemptOutcome.ABSENT, AttemptOutcome.UNCONFIRMED])
def test_an_id_that_came_late_corrects_what_the_lists_told(first_outcome: AttemptOutcome) -> None:
    values = [
        build_settled_record(ATTEMPT, outcome, pin, NOW).value
        for outcome, pin in [
            (first_outcome, None),
            (AttemptOutcome.CREATED, "1"),
            (first_outcome, None),
        ]
    ]
    assert list(parse_entries(values).settled.values()) == [
        SettledAttempt(ATTEMPT.attempt_id, AttemptOutcome.CREATED, "1", NOW)
    ]


CONTRADICTION = build_settled_record(ATTEMPT, AttemptOutcome.REFUSED, "1", NOW).value


@pytest.mark.parametrize("value", [None, b"", b"[]", b'{"kind": "new"}', CONTRADICTION])
def test_a_record_that_can_not_be_read_is_skipped(value: bytes | None) -> None:
    entries = parse_entries([value, build_attempted_record(ATTEMPT).value])
    assert list(entries.attempts) == [ATTEMPT.attempt_id]
