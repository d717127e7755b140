"""Decoding: every record is either decoded or becomes a dead letter."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.admission.control import AdmissionControl
from services.ingest.config import IngestSettings
from services.ingest.consumers import ImportRequestHandler
from services.ingest.import_request_service import ImportRequestService
from services.publisher.rows.consumer import RowsHandler
from services.publisher.rows.service import RowService
from services.status.consumers import FoldHandler
from shared.access.cache import WorkspaceCache
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.events import (
    FileUploaded,
    RecordKind,
    RowAccepted,
    RowsSettled,
    UploadFormat,
    decode_import,
)
from shared.contract.import_records import is_for_publisher, is_for_status, kind_prefix
from shared.contract.topics import MAX_RECORD_BYTES, TopicName
from shared.contract.wire import encode
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import DeadLetter, to_record
from tests.contract import pydantic_events
from tests.contract.wire import PAIRS, Pair, pair, require_same
from tests.property.documents import json_documents, mutated, offsets
from tests.property.profiles import examples
from tests.property.records import NAMES, build_consumer_record
from tests.support.factories import (
    created_result,
    failed_result,
    import_accepted,
    row_accepted,
    rows_settled,
)
from tests.support.fakes import MemorySender
from tests.support.imports import new_reader

JOB = import_accepted()
UNKNOWN = encode(row_accepted()).replace(b'"version"', b'"of_a_newer_version":"\xff","version"')
"""An unknown field with invalid UTF-8. msgspec accepts it, but pydantic does not."""
DEEP = b'{"of_a_newer_version":' + b"[" * 100_000
events = st.sampled_from(
    [
        encode(JOB),
        encode(
            row_accepted(
                run_at="2031-01-01T00:00:00+02:00", related_terms=["a"], dominant_color="#FFFFFF"
            )
        ),
        encode(rows_settled(JOB, created_result(1), failed_result(2))),
        json.dumps(
            {"request_id": "r", "workspace_id": str(JOB.workspace_id), "rows": [{}]}
        ).encode(),
    ]
)
_names = st.sampled_from(
    [
        *RowAccepted.__struct_fields__,
        *RowsSettled.__struct_fields__,
        "type",
        "total_rows",
        "request_id",
        "newer",
    ]
)


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """Draws an event and replaces one of its values. The result is valid JSON."""
    document: dict[str, Any] = json.loads(draw(events))
    value = json.loads(draw(json_documents))
    objects = [document, *(field for field in document.values() if isinstance(field, dict))]
    target = draw(st.sampled_from(objects))
    target[draw(st.sampled_from(sorted(target)) | _names)] = value
    return json.dumps(document, separators=(",", ":")).encode()


hostile = altered() | mutated(events) | mutated(altered()) | st.binary(max_size=60)


@examples(120)
@given(st.sampled_from(PAIRS), hostile)
@example(pair(RowAccepted), DEEP)
@example(pair(RowsSettled), DEEP)
@example(pair(RowAccepted), UNKNOWN)
def test_an_event_is_accepted_or_rejected_like_the_former_pydantic_model(
    same: Pair, value: bytes
) -> None:
    require_same(same.decode, same.model.model_validate_json, value)


@examples(60)
@given(hostile)
def test_an_import_is_accepted_or_rejected_like_the_former_pydantic_model(value: bytes) -> None:
    require_same(decode_import, pydantic_events.IMPORT_EVENT.validate_json, value)


class Reader(StrEnum):
    """A consumer and its topic. The topic `imports` has two consumers."""

    ROWS = "publisher, imports"
    IMPORTS = "status, imports"
    OUTCOMES = "status, outcomes"
    REQUESTS = "ingest, import-requests"


TOPICS = {
    Reader.ROWS: TopicName.IMPORTS,
    Reader.IMPORTS: TopicName.IMPORTS,
    Reader.OUTCOMES: TopicName.OUTCOMES,
    Reader.REQUESTS: TopicName.IMPORT_REQUESTS,
}


def build_handlers() -> dict[Reader, Any]:
    """Builds each consumer's handler. Decoding needs none of their dependencies."""
    status = FoldHandler(cast("Any", None), NAMES)
    settings = IngestSettings()
    requests = ImportRequestHandler(
        ImportRequestService(
            cast("Any", None),
            cast("WorkspaceCache", None),
            cast("Any", None),
            AdmissionControl(settings),
            new_reader(),
            settings,
        )
    )
    return {
        Reader.ROWS: RowsHandler(cast("RowService", None), MemorySender(), NAMES),
        Reader.IMPORTS: status,
        Reader.OUTCOMES: status,
        Reader.REQUESTS: requests,
    }


HANDLERS = build_handlers()
_headers = st.lists(
    st.tuples(
        st.sampled_from(["ce_type", "ce_id", "pinflow-replay-count", ""]) | st.text(max_size=4),
        st.binary(max_size=20),
    )
    | st.just(("ce_type", EventType.IMPORT_REQUESTED.encode())),
    max_size=3,
)


def find_dead_letters(reader: Reader, batch: Batch) -> list[DeadLetter]:
    events, dead_letters = HANDLERS[reader].decode(batch)
    assert len(events) + len(dead_letters) == len(batch)
    return list(dead_letters)


@examples(80)
@given(
    st.sampled_from(list(HANDLERS)), st.lists(hostile | st.none(), min_size=1, max_size=3), _headers
)
@example(Reader.ROWS, [DEEP, None], [])
@example(Reader.OUTCOMES, [DEEP], [])
@example(Reader.IMPORTS, [DEEP], [])
def test_invariant_8_every_record_is_decoded_or_becomes_a_dead_letter_that_can_be_sent(
    reader: Reader, values: list[bytes | None], headers: list[tuple[str, bytes]]
) -> None:
    batch = [build_consumer_record(TOPICS[reader], value, headers=headers) for value in values]
    for dead_letter in find_dead_letters(reader, batch):
        record = to_record(dead_letter, service="test")
        assert record.value == (dead_letter.record.value or b"")
        assert len(record.value) < MAX_RECORD_BYTES
        assert all(
            name.encode() is not None and isinstance(value, bytes) for name, value in record.headers
        )


@examples(50)
@given(st.lists(hostile, min_size=1, max_size=4))
@example([UNKNOWN, b""])
def test_invariant_8_each_record_is_decoded_independently(values: list[bytes]) -> None:
    for reader in (Reader.ROWS, Reader.OUTCOMES, Reader.IMPORTS):
        batch = [build_consumer_record(TOPICS[reader], value) for value in values]
        together = {id(dead_letter.record) for dead_letter in find_dead_letters(reader, batch)}
        assert together == {id(record) for record in batch if find_dead_letters(reader, [record])}


@examples(80)
@given(hostile | st.none())
@example(b'{"kind":"r"}')
@example(b'{"kind": "i"}')
@example(b'{"kind":"new"}')
def test_invariant_8_exactly_one_service_owns_each_record_of_imports(value: bytes | None) -> None:
    assert is_for_publisher(value) is not is_for_status(value)


def test_every_event_of_imports_belongs_to_the_owner_of_its_kind() -> None:
    row, settled = row_accepted(), rows_settled(JOB, failed_result(2))
    upload = FileUploaded(
        job_id=JOB.job_id, workspace_id=JOB.workspace_id, format=UploadFormat.CSV, size=0
    )
    for event in (JOB, row, settled, upload):
        value = encode(event)
        assert value.startswith(kind_prefix(RecordKind(event.kind)))
        assert is_for_publisher(value) is (event is row)


@examples(60)
@given(
    st.text(min_size=1, max_size=40), st.datetimes(timezones=offsets), st.sampled_from(EventType)
)
def test_headers_of_a_cloud_event_can_be_read_back(
    event_id: str, time: datetime, kind: EventType
) -> None:
    if not _fits_in_utc(time):
        return
    attributes = {
        name: value.decode()
        for name, value in build_headers(kind, event_id=event_id, source="/x", time=time)
    }
    assert (attributes["ce_id"], attributes["ce_type"], attributes["ce_specversion"]) == (
        event_id,
        kind,
        "1.0",
    )
    assert datetime.fromisoformat(attributes["ce_time"]) == time


def _fits_in_utc(time: datetime) -> bool:
    try:
        time.astimezone(UTC)
    except OverflowError:
        return False
    return True
