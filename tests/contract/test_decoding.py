"""Events are accepted, refused, serialized and described like the pydantic models that they
replaced.
"""

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import TypeAdapter

from shared.contract.delivery_events import DeliveryAttempted, DeliverySettled
from shared.contract.events import (
    ExistingState,
    Fault,
    FieldDifference,
    FileUploaded,
    ImportAccepted,
    ImportCompleted,
    ImportRejected,
    ImportRequested,
    JobStatus,
    Notice,
    RowAccepted,
    RowResult,
    RowsSettled,
    RowStatus,
    SourceType,
    UploadFormat,
    decode_import,
)
from shared.contract.pin_events import PinDeferred, PinFailed, PinPublished, PinQueued, PinScheduled
from shared.contract.wire import WireStruct, encode
from tests.contract import pydantic_events
from tests.contract.wire import OMIT_NULLS, PAIRS, Pair, outcome, pair, require_same
from tests.support.factories import (
    NOON,
    created_result,
    failed_result,
    import_accepted,
    row_accepted,
)

IDS: dict[str, Any] = {"job_id": uuid4(), "workspace_id": uuid4()}
PIN: dict[str, Any] = {
    "pin_id": uuid4(),
    "workspace_id": uuid4(),
    "account_id": uuid4(),
    "board_id": "b",
    "idempotency_key": 'k\u00e9"\\\n\u2028',
}
ATTEMPT: dict[str, Any] = {name: uuid4() for name in ("attempt_id", "pin_id", "account_id")}
FAULT = Fault(code="missing", field="title", message="is required")
EXISTING = RowResult(
    row_number=500,
    status=RowStatus.EXISTING,
    schedule_id=uuid4(),
    payload_matches=False,
    line=1001,
    existing_state=ExistingState.CANCELED,
    differing_fields=[FieldDifference(field="title", stored="Lamp", sent=None)],
)
EXAMPLES: list[WireStruct] = [
    row_accepted(),
    row_accepted(
        run_at="2031-01-01T00:00:00.5+02:00",
        related_terms=["a", "b"],
        dominant_color="#FFFFFF",
        asset_id=str(uuid4()),
        image_url=None,
        cover_image_asset_id=str(uuid4()),
    ),
    RowsSettled(**IDS, results=[created_result(), EXISTING, failed_result(2, errors=[FAULT])]),
    import_accepted(),
    import_accepted(
        batch_records=7,
        source_filename="a.csv",
        request_id="r",
        warnings=[Notice(code="c", message="m", row_numbers=[1, 500])],
        publishing_now=1,
        scheduled_for_later=2,
        source_type=SourceType.CSV,
        accepted_at=datetime.fromisoformat("2026-11-23T12:00:00.000001+05:30"),
    ),
    ImportRejected(**IDS, accepted_at=NOON, error_code="c", error_message="m"),
    FileUploaded(**IDS, format=UploadFormat.REQUEST, size=0),
    ImportRequested(request_id="r", workspace_id=uuid4(), source="s", rows=[{"a": [1, None]}]),
    ImportCompleted(
        **IDS,
        status=JobStatus.COMPLETED_WITH_ERRORS,
        total_rows=3,
        processed_rows=3,
        created_rows=1,
        existing_rows=1,
        failed_rows=1,
        completed_at=NOON,
    ),
    PinPublished(**PIN, published_at=NOON),
    PinPublished(**PIN, published_at=NOON, pinterest_pin_id="813744226420795884"),
    PinQueued(**PIN, job_id=uuid4(), row_number=1, queued_at=NOON),
    PinDeferred(**PIN, error_code="c", deferred_until=NOON, deferred_at=NOON),
    PinScheduled(**PIN, job_id=uuid4(), row_number=1, schedule_id=uuid4(), run_at=NOON),
    PinFailed(**PIN, error_code="c", error_message="m", failed_at=NOON),
    DeliveryAttempted(
        **ATTEMPT,
        number=1,
        workspace_id=uuid4(),
        mode="simulated",
        fence=7,
        board_id="549755813888000001",
        texts={"title": "Lamp", "link": None},
        started_at=NOON,
        deadline_at=NOON,
    ),
    DeliverySettled(**ATTEMPT, outcome="created", pinterest_pin_id="8", settled_at=NOON),
]
ROW: dict[str, Any] = json.loads(encode(EXAMPLES[1]))
HOSTILE: list[tuple[str, object]] = [
    ("kind", None),
    ("kind", "x"),
    ("version", 2),
    ("version", None),
    ("version", True),
    ("version", 1.0),
    ("job_id", None),
    ("job_id", "nonsense"),
    ("job_id", "{413c8cf3-8740-4444-ae78-3e1bb9f31fe6}"),
    ("job_id", "urn:uuid:413c8cf3-8740-4444-ae78-3e1bb9f31fe6"),
    ("job_id", "c35ae88dd5f94899a91e6e8dc9dc1e9b"),
    ("row_number", 0),
    ("row_number", 501),
    ("row_number", 2**70),
    ("row_number", "7"),
    ("row_number", 7.0),
    ("row_number", 7.5),
    ("row_number", True),
    ("accepted_at", "2026-11-23T12:00:00"),
    ("accepted_at", "2026-11-23 12:00:00Z"),
    ("accepted_at", "2026-11-23T12:00:00.123456Z"),
    ("accepted_at", "2026-11-23T12:00Z"),
    ("accepted_at", "1969-12-31T23:59:59Z"),
    ("accepted_at", "9999-01-01T00:00:00Z"),
    ("accepted_at", 1_700_000_000),
    ("fingerprint", 5),
    ("row", None),
    ("row", []),
    ("row", {**ROW["row"], "title": None}),
    ("row", {**ROW["row"], "idempotency_key": "é" * 255}),
    ("row", {**ROW["row"], "idempotency_key": "k" * 256}),
    ("row", {**ROW["row"], "board_id": "b" * 600_000}),
    ("row", {**ROW["row"], "run_at": "2031-01-01"}),
    ("row", {**ROW["row"], "related_terms": "a, b"}),
    ("row", {**ROW["row"], "related_terms": [1]}),
    ("row", {**ROW["row"], "of_a_newer_version": 1}),
    ("of_a_newer_version", {"a": [1]}),
    ("type", "import_accepted"),
    ("type", "import_rejected"),
    ("type", "import_forgotten"),
    ("total_rows", 0),
    ("total_rows", "3"),
    ("warnings", None),
    ("warnings", [{"code": "c"}]),
    ("source_type", "xml"),
    ("size", -1),
    ("encoding", "gzip"),
    ("request_id", ""),
    ("request_id", "r" * 256),
    ("results", [{"row_number": 1, "status": "gone"}]),
    ("results", [{"row_number": 1, "status": "failed", "errors": [{"code": "c"}]}]),
    ("status", "gone"),
    ("published_at", "2026-11-23T12:00:00"),
]
BROKEN = [b"", b"{", b"[]", b"null", b"7", b"\xff", b'{"version": NaN}', b'{"new":' + b"[" * 10**5]


@pytest.mark.parametrize("event", EXAMPLES)
def test_an_event_is_serialized_as_by_its_pydantic_model(event: WireStruct) -> None:
    model = pair(type(event)).model.model_validate_json(encode(event))
    written, expected = encode(event), model.model_dump_json().encode()
    if isinstance(event, OMIT_NULLS):
        assert drop_nulls(json.loads(written)) == drop_nulls(json.loads(expected))
    else:
        assert written == expected


def drop_nulls(value: Any) -> Any:
    """Drops null fields at every level."""
    if isinstance(value, list):
        return [drop_nulls(item) for item in value]
    if isinstance(value, dict):
        return {name: drop_nulls(item) for name, item in value.items() if item is not None}
    return value


@pytest.mark.parametrize("event", EXAMPLES)
def test_an_event_is_read_as_it_was_written(event: WireStruct) -> None:
    assert pair(type(event)).decode(encode(event)) == event


@pytest.mark.parametrize("event", EXAMPLES)
def test_an_event_that_pinflow_writes_is_decoded_by_msgspec_alone(event: WireStruct) -> None:
    assert pair(type(event)).decode.strict(encode(event)) == event


@pytest.mark.parametrize("event", EXAMPLES)
@pytest.mark.parametrize(("field", "value"), HOSTILE)
def test_a_changed_value_is_accepted_or_refused_as_by_the_pydantic_model(
    event: WireStruct, field: str, value: object
) -> None:
    document = json.dumps({**json.loads(encode(event)), field: value}).encode()
    _, model, decode = pair(type(event))
    require_same(decode, model.model_validate_json, document)
    require_same(decode_import, pydantic_events.IMPORT_EVENT.validate_json, document)


@pytest.mark.parametrize("event", EXAMPLES)
def test_the_same_fields_are_required_as_by_the_pydantic_model(event: WireStruct) -> None:
    document = json.loads(encode(event))
    _, model, decode = pair(type(event))
    for field in document:
        incomplete = {name: value for name, value in document.items() if name != field}
        value = json.dumps(incomplete).encode()
        require_same(decode, model.model_validate_json, value)
        require_same(decode_import, pydantic_events.IMPORT_EVENT.validate_json, value)


@pytest.mark.parametrize("value", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("same", PAIRS)
def test_a_value_that_is_not_an_event_is_refused_as_by_the_pydantic_model(
    same: Pair, value: bytes
) -> None:
    require_same(same.decode, same.model.model_validate_json, value)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"request_id": "r", "workspace_id": "{413c8cf3-8740-4444-ae78-3e1bb9f31fe6}"},
        {"request_id": 7, "workspace_id": 7},
        {"request_id": "r" * 256, "workspace_id": None},
    ],
)
def test_a_request_is_accepted_or_refused_as_by_the_pydantic_model(document: object) -> None:
    old = pydantic_events.ImportRequested.model_validate
    assert outcome(pair(ImportRequested).decode.from_document, document) == outcome(old, document)


@pytest.mark.parametrize("same", PAIRS)
def test_a_json_schema_equals_the_pydantic_models(same: Pair) -> None:
    """Ignores titles and descriptions, and allows new optional fields."""
    _require_within(
        same.model.model_json_schema(), TypeAdapter(same.event).json_schema(mode="validation")
    )


def _require_within(old: object, new: object) -> None:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        assert new == old
        return
    for name in old.keys() - {"title", "description"}:
        _require_within(old[name], new[name])
    assert old.get("required") == new.get("required")


def test_a_refusal_names_the_field_without_the_payload() -> None:
    secret = "s3cret"  # pragma: allowlist secret
    for field in ("job_id", "row_number", "accepted_at", "kind", "row"):
        value = json.dumps({**ROW, field: secret}).encode()
        message = outcome(pair(RowAccepted).decode, value)
        assert message.startswith(field)
        assert secret not in message


def test_an_import_with_a_time_out_of_range_is_never_built() -> None:
    with pytest.raises(ValueError, match="accepted_at"):
        import_accepted(accepted_at=datetime.fromisoformat("1960-01-01T00:00:00Z"))
    assert isinstance(decode_import(encode(import_accepted())), ImportAccepted)
