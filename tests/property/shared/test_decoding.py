"""Events: whatever stands on a topic, a consumer takes it or gives it up; nothing else ever comes
out of `decode`.
"""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.admission.limits import Admission
from services.ingest.config import IngestSettings
from services.ingest.consumers import ImportRequestHandler
from services.ingest.requested_imports import RequestedImportService
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
from tests.property.records import NAMES, received
from tests.support.factories import created, failed, import_accepted, row_accepted, rows_settled
from tests.support.fakes import MemorySender

JOB = import_accepted()
UNKNOWN = encode(row_accepted()).replace(b'"version"', b'"of_a_newer_version":"\xff","version"')
"""Which msgspec takes and pydantic does not."""
DEEP = b'{"of_a_newer_version":' + b"[" * 100_000
events = st.sampled_from(
    [
        encode(JOB),
        encode(
            row_accepted(
                run_at="2031-01-01T00:00:00+02:00", related_terms=["a"], dominant_color="#FFFFFF"
            )
        ),
        encode(rows_settled(JOB, created(1), failed(2))),
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
    """An event with another value in one place, still JSON."""
    document: dict[str, Any] = json.loads(draw(events))
    value = json.loads(draw(json_documents))
    place = draw(
        st.sampled_from([document, *(one for one in document.values() if isinstance(one, dict))])
    )
    place[draw(st.sampled_from(sorted(place)) | _names)] = value
    return json.dumps(document, separators=(",", ":")).encode()


hostile = altered() | mutated(events) | mutated(altered()) | st.binary(max_size=60)


@examples(120)
@given(st.sampled_from(PAIRS), hostile)
@example(pair(RowAccepted), DEEP)
@example(pair(RowsSettled), DEEP)
@example(pair(RowAccepted), UNKNOWN)
def test_an_event_is_taken_or_refused_as_when_it_was_a_pydantic_model(
    same: Pair, value: bytes
) -> None:
    require_same(same.decode, same.model.model_validate_json, value)


@examples(60)
@given(hostile)
def test_an_import_is_taken_or_refused_as_when_it_was_a_pydantic_model(value: bytes) -> None:
    require_same(decode_import, pydantic_events.IMPORT_EVENT.validate_json, value)


class Reader(StrEnum):
    """Names a consumer and what it reads: the topic `imports` has two readers."""

    ROWS = "publisher, imports"
    IMPORTS = "status, imports"
    OUTCOMES = "status, outcomes"
    REQUESTS = "ingest, import-requests"


TOPIC_OF = {
    Reader.ROWS: TopicName.IMPORTS,
    Reader.IMPORTS: TopicName.IMPORTS,
    Reader.OUTCOMES: TopicName.OUTCOMES,
    Reader.REQUESTS: TopicName.IMPORT_REQUESTS,
}


def handlers() -> dict[Reader, Any]:
    """Makes the handler of each reader. Decoding needs nothing of what they work with."""
    status = FoldHandler(cast("Any", None), NAMES)
    settings = IngestSettings()
    requests = ImportRequestHandler(
        RequestedImportService(
            cast("Any", None),
            cast("WorkspaceCache", None),
            cast("Any", None),
            Admission(settings),
            settings,
        )
    )
    return {
        Reader.ROWS: RowsHandler(cast("RowService", None), MemorySender(), NAMES),
        Reader.IMPORTS: status,
        Reader.OUTCOMES: status,
        Reader.REQUESTS: requests,
    }


HANDLERS = handlers()
_headers = st.lists(
    st.tuples(
        st.sampled_from(["ce_type", "ce_id", "pinflow-replay-count", ""]) | st.text(max_size=4),
        st.binary(max_size=20),
    )
    | st.just(("ce_type", EventType.IMPORT_REQUESTED.encode())),
    max_size=3,
)


def decoded(reader: Reader, batch: Batch) -> list[DeadLetter]:
    good, letters = HANDLERS[reader].decode(batch)
    assert len(good) + len(letters) == len(batch)
    return list(letters)


@examples(80)
@given(
    st.sampled_from(list(HANDLERS)), st.lists(hostile | st.none(), min_size=1, max_size=3), _headers
)
@example(Reader.ROWS, [DEEP, None], [])
@example(Reader.OUTCOMES, [DEEP], [])
@example(Reader.IMPORTS, [DEEP], [])
def test_invariant_8_every_record_is_taken_or_given_up_and_what_is_given_up_can_be_sent(
    reader: Reader, values: list[bytes | None], about: list[tuple[str, bytes]]
) -> None:
    batch = [received(TOPIC_OF[reader], value, headers=about) for value in values]
    for letter in decoded(reader, batch):
        record = to_record(letter, service="test")
        assert record.value == (letter.record.value or b"")
        assert len(record.value) < MAX_RECORD_BYTES
        assert all(
            name.encode() is not None and isinstance(value, bytes) for name, value in record.headers
        )


@examples(50)
@given(st.lists(hostile, min_size=1, max_size=4))
@example([UNKNOWN, b""])
def test_invariant_8_one_record_says_nothing_of_another(values: list[bytes]) -> None:
    for reader in (Reader.ROWS, Reader.OUTCOMES, Reader.IMPORTS):
        batch = [received(TOPIC_OF[reader], value) for value in values]
        together = {id(letter.record) for letter in decoded(reader, batch)}
        assert together == {id(record) for record in batch if decoded(reader, [record])}


@examples(80)
@given(hostile | st.none())
@example(b'{"kind":"r"}')
@example(b'{"kind": "i"}')
@example(b'{"kind":"new"}')
def test_invariant_8_every_record_of_the_imports_has_exactly_one_owner(value: bytes | None) -> None:
    assert is_for_publisher(value) is not is_for_status(value)


def test_every_event_of_the_imports_goes_to_the_owner_of_its_kind() -> None:
    row, settled = row_accepted(), rows_settled(JOB, failed(2))
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
    if not _in_utc(time):
        return
    about = {
        name: value.decode()
        for name, value in build_headers(kind, event_id=event_id, source="/x", time=time)
    }
    assert (about["ce_id"], about["ce_type"], about["ce_specversion"]) == (event_id, kind, "1.0")
    assert datetime.fromisoformat(about["ce_time"]) == time


def _in_utc(time: datetime) -> bool:
    try:
        time.astimezone(UTC)
    except OverflowError:
        return False
    return True
