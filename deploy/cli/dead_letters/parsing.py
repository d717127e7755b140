"""From a record on `dead-letters` to what it says."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from aiokafka import ConsumerRecord

from deploy.cli.dead_letters.letter import REPLAYABLE, Letter, Mark, Name, RowName
from shared.contract import dead_letters
from shared.contract.import_records import is_row, is_upload
from shared.contract.row_identity import identify_row
from shared.contract.topics import TopicName, TopicNames

REPLAYED = "pinflow-replayed"
REPLAYED_AS = "pinflow-replayed-as"
KEYED_BY_JOB = (TopicName.IMPORTS, TopicName.OUTCOMES)
MOST_REPLAYS = 1_000_000


def mark_of(record: "ConsumerRecord[bytes, bytes]") -> Mark | None:
    """None for a letter.

    A letter can't be taken for a mark: what a record brings under our prefix is not kept.
    """
    headers = _texts(record)
    if not headers.get(REPLAYED, "").isdecimal():
        return None
    return Mark(
        Name(record.partition, int(headers[REPLAYED])), _time(record), headers.get(REPLAYED_AS, "")
    )


def letter_of(record: "ConsumerRecord[bytes, bytes]", names: TopicNames) -> Letter:
    headers = _texts(record)
    topic_name = headers.get(dead_letters.TOPIC, "")
    topic = {names[topic]: topic for topic in REPLAYABLE}.get(topic_name)
    document = _document(record.value)
    row = _row_of(record.value) if topic is TopicName.IMPORTS else None
    return Letter(
        name=Name(record.partition, record.offset),
        given_up_at=_time(record),
        topic=topic,
        topic_name=topic_name,
        partition=headers.get(dead_letters.PARTITION, ""),
        offset=headers.get(dead_letters.OFFSET, ""),
        service=headers.get(dead_letters.SERVICE, ""),
        code=headers.get(dead_letters.ERROR_CODE, ""),
        message=headers.get(dead_letters.ERROR_MESSAGE, ""),
        first_seen=headers.get(dead_letters.FIRST_SEEN, ""),
        replays=_count(headers.get(dead_letters.REPLAYS, "")),
        size=len(record.key or b"")
        + len(record.value or b"")
        + sum(len(name) + len(value or b"") for name, value in record.headers),
        cut=dead_letters.TRUNCATED in headers,
        workspace_id=_uuid(document.get("workspace_id"))
        or (None if topic in KEYED_BY_JOB else _uuid(record.key)),
        job_id=_uuid(document.get("job_id"))
        or (_uuid(record.key) if topic in KEYED_BY_JOB else None),
        row=row,
        has_content=row is not None and _is_content(document.get("row")),
    )


def original_headers(record: "ConsumerRecord[bytes, bytes]") -> list[tuple[str, bytes]]:
    return [
        (name, value) for name, value in record.headers if not name.startswith(dead_letters.PREFIX)
    ]


def _texts(record: "ConsumerRecord[bytes, bytes]") -> dict[str, str]:
    ours = [(name, value) for name, value in record.headers if name.startswith(dead_letters.PREFIX)]
    return {name: (value or b"").decode(errors="replace") for name, value in ours}


def _row_of(value: bytes | None) -> RowName | None:
    """Names the row that the record is, if it is of the kind `r` and still says which one."""
    if value is None or not is_row(value):
        return None  # an unknown kind may name a row too, and mean anything but an import
    row = identify_row(value)
    return RowName(row.job_id, row.row_number) if row else None


def _document(value: bytes | None) -> Mapping[str, Any]:
    text = value or b""
    if is_upload(text):
        text, _, _ = text.partition(b"\n")  # then come the upload's own bytes
    with suppress(ValueError):
        document = orjson.loads(text)
        if isinstance(document, dict):
            return document
    return {}


def _is_content(row: object) -> bool:
    with suppress(orjson.JSONEncodeError):  # it reads what is nested more deeply than it writes
        return isinstance(row, dict) and bool(orjson.dumps(row))
    return False


def _uuid(value: object) -> UUID | None:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    with suppress(ValueError):
        return UUID(text) if isinstance(text, str) else None
    return None


def _count(text: str) -> int:
    return min(int(text), MOST_REPLAYS) if text.isdecimal() else 0


def _time(record: "ConsumerRecord[bytes, bytes]") -> datetime:
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)
