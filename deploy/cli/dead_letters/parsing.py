"""Parses records of the topic `dead-letters`: dead letters and replay markers."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from aiokafka import ConsumerRecord

from deploy.cli.dead_letters.model import (
    REPLAYABLE_TOPICS,
    DeadLetterName,
    ReplayMarker,
    StoredDeadLetter,
)
from deploy.cli.row_id import RowId
from shared.contract import dead_letters
from shared.contract.import_records import is_row, is_upload
from shared.contract.row_identity import identify_row
from shared.contract.topics import TopicName, TopicNames

REPLAYED = "pinflow-replayed"
"""The header of a marker with the offset of the dead letter that was replayed."""
REPLAYED_AS = "pinflow-replayed-as"
"""The header of a marker with the target of the replay: a topic, or `new-import`."""
KEYED_BY_JOB = (TopicName.IMPORTS, TopicName.OUTCOMES)
"""The topics whose records have the job id as key. The key of other records is a workspace id."""
MAX_REPLAY_COUNT = 1_000_000


def parse_marker(record: "ConsumerRecord[bytes, bytes]") -> ReplayMarker | None:
    """Parses a replay marker, or returns None if the record is a dead letter.

    No dead letter looks like a marker: services drop a record's own headers with the prefix
    `pinflow-` when they write its dead letter.
    """
    headers = _read_pinflow_headers(record)
    if not headers.get(REPLAYED, "").isdecimal():
        return None
    return ReplayMarker(
        DeadLetterName(record.partition, int(headers[REPLAYED])),
        _read_timestamp(record),
        headers.get(REPLAYED_AS, ""),
    )


def parse_dead_letter(
    record: "ConsumerRecord[bytes, bytes]", names: TopicNames
) -> StoredDeadLetter:
    """Parses a dead letter. Accepts any record, also one that no service wrote."""
    headers = _read_pinflow_headers(record)
    topic_name = headers.get(dead_letters.TOPIC, "")
    topic = {names[topic]: topic for topic in REPLAYABLE_TOPICS}.get(topic_name)
    document = _parse_document(record.value)
    row = _parse_row_id(record.value) if topic is TopicName.IMPORTS else None
    return StoredDeadLetter(
        name=DeadLetterName(record.partition, record.offset),
        given_up_at=_read_timestamp(record),
        topic=topic,
        topic_name=topic_name,
        partition=headers.get(dead_letters.PARTITION, ""),
        offset=headers.get(dead_letters.OFFSET, ""),
        service=headers.get(dead_letters.SERVICE, ""),
        code=headers.get(dead_letters.ERROR_CODE, ""),
        message=headers.get(dead_letters.ERROR_MESSAGE, ""),
        first_seen=headers.get(dead_letters.FIRST_SEEN, ""),
        replays=_parse_count(headers.get(dead_letters.REPLAYS, "")),
        size=len(record.key or b"")
        + len(record.value or b"")
        + sum(len(name) + len(value or b"") for name, value in record.headers),
        is_truncated=dead_letters.TRUNCATED in headers,
        workspace_id=_parse_uuid(document.get("workspace_id"))
        or (None if topic in KEYED_BY_JOB else _parse_uuid(record.key)),
        job_id=_parse_uuid(document.get("job_id"))
        or (_parse_uuid(record.key) if topic in KEYED_BY_JOB else None),
        row=row,
        has_content=row is not None and _is_writable(document.get("row")),
    )


def read_original_headers(record: "ConsumerRecord[bytes, bytes]") -> list[tuple[str, bytes]]:
    """Returns the headers that the original record had."""
    return [
        (name, value) for name, value in record.headers if not name.startswith(dead_letters.PREFIX)
    ]


def _read_pinflow_headers(record: "ConsumerRecord[bytes, bytes]") -> dict[str, str]:
    return {
        name: (value or b"").decode(errors="replace")
        for name, value in record.headers
        if name.startswith(dead_letters.PREFIX)
    }


def _parse_row_id(value: bytes | None) -> RowId | None:
    """Parses job id and row number of a record of the kind `r`, which is a row."""
    if value is None or not is_row(value):
        return None  # another kind may name a row too, but it is not a row to import
    row = identify_row(value)
    return RowId(row.job_id, row.row_number) if row else None


def _parse_document(value: bytes | None) -> Mapping[str, Any]:
    text = value or b""
    if is_upload(text):
        text, _, _ = text.partition(b"\n")  # the uploaded file follows, which may be any bytes
    with suppress(ValueError):
        document = orjson.loads(text)
        if isinstance(document, dict):
            return document
    return {}


def _is_writable(row: object) -> bool:
    # orjson reads JSON that is nested more deeply than the JSON that it writes
    with suppress(orjson.JSONEncodeError):
        return isinstance(row, dict) and bool(orjson.dumps(row))
    return False


def _parse_uuid(value: object) -> UUID | None:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    with suppress(ValueError):
        return UUID(text) if isinstance(text, str) else None
    return None


def _parse_count(text: str) -> int:
    return min(int(text), MAX_REPLAY_COUNT) if text.isdecimal() else 0


def _read_timestamp(record: "ConsumerRecord[bytes, bytes]") -> datetime:
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)
