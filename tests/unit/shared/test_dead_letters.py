"""Invariant 8: poison is never lost. Its dead letter contains the record, origin and reason."""

from aiokafka import ConsumerRecord

from shared.contract.errors import ErrorCode, Poison
from shared.contract.import_limits import MEBIBYTE
from shared.contract.topics import MAX_RECORD_BYTES
from shared.kafka.dead_letters import (
    MAX_KEY_AND_HEADERS_BYTES,
    MAX_VALUE_BYTES,
    DeadLetter,
    select_replay_headers,
    to_record,
)


def consumed(
    *headers: tuple[str, bytes | None], value: bytes | None = b"\xff\x00garbage"
) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(
        topic="pinflow.rows.v1",
        partition=3,
        offset=41,
        timestamp=0,
        timestamp_type=0,
        key=b"job",
        value=value,
        checksum=None,
        serialized_key_size=3,
        serialized_value_size=9,
        headers=list(headers),
    )


REASON = Poison(ErrorCode.INVALID_RECORD, "not JSON")


def test_key_and_value_are_unchanged() -> None:
    record = to_record(DeadLetter(consumed(), REASON), service="publisher")
    assert (record.key, record.value) == (b"job", b"\xff\x00garbage")


def test_the_headers_contain_origin_and_reason_as_text() -> None:
    headers = dict(to_record(DeadLetter(consumed(), REASON), service="publisher").headers)
    assert headers["pinflow-topic"] == b"pinflow.rows.v1"
    assert headers["pinflow-partition"] == b"3"
    assert headers["pinflow-offset"] == b"41"
    assert headers["pinflow-service"] == b"publisher"
    assert headers["pinflow-error-class"] == b"Poison"
    assert headers["pinflow-error-code"] == b"invalid_record"
    assert headers["pinflow-error-message"] == b"not JSON"
    assert headers["pinflow-replay-count"] == b"0"


def test_original_headers_and_the_replay_count_are_kept() -> None:
    original = [
        ("ce_id", b"7"),
        ("odd", b"\xff"),
        ("none", None),
        ("pinflow-replay-count", b"2"),
        ("pinflow-first-seen", b"then"),
    ]
    headers = dict(to_record(DeadLetter(consumed(*original), REASON), service="ingest").headers)
    assert headers["ce_id"] == b"7"
    assert headers["odd"] == b"\xff"
    assert headers["pinflow-replay-count"] == b"2"
    assert headers["pinflow-first-seen"] == b"then"


def test_a_record_without_a_value_becomes_a_dead_letter() -> None:
    assert to_record(DeadLetter(consumed(value=None), REASON), service="status").value == b""


def test_a_value_too_large_for_the_topic_is_truncated_and_marked() -> None:
    record = to_record(
        DeadLetter(consumed(value=b"x" * (MAX_VALUE_BYTES + 5)), REASON), service="ingest"
    )
    assert len(record.value) == MAX_VALUE_BYTES
    assert dict(record.headers)["pinflow-truncated"] == str(MAX_VALUE_BYTES + 5).encode()


def test_too_large_headers_are_dropped_and_the_dead_letter_is_marked() -> None:
    """Kafka would refuse the dead letter, and its record would be retried forever.

    Headers can be this large if their producer had compressed them.
    """
    original = [("trace", b"kept"), ("large", b"x" * 8 * MEBIBYTE), ("after", b"y")]
    record = to_record(
        DeadLetter(consumed(*original, value=b"v" * MAX_VALUE_BYTES), REASON), service="status"
    )
    headers = dict(record.headers)
    assert (headers["trace"], "large" in headers, headers["pinflow-truncated"]) == (
        b"kept",
        False,
        str(MAX_VALUE_BYTES).encode(),
    )
    assert (
        len(record.value) + sum(len(name) + len(value) for name, value in record.headers)
        < MAX_RECORD_BYTES
    )


def test_large_headers_are_kept_with_a_small_value() -> None:
    headers = dict(
        to_record(
            DeadLetter(consumed(("large", b"x" * 4 * MAX_KEY_AND_HEADERS_BYTES)), REASON),
            service="status",
        ).headers
    )
    assert (len(headers["large"]), "pinflow-truncated" in headers) == (
        4 * MAX_KEY_AND_HEADERS_BYTES,
        False,
    )


def test_replay_headers_are_bounded() -> None:
    original = [("pinflow-replay-count", b"1")] * 1000 + [
        ("pinflow-first-seen", b"x" * 1000),
        ("ce_id", b"7"),
        ("pinflow-replay-count", None),
    ]
    assert select_replay_headers(original) == [("pinflow-replay-count", b"1")]
