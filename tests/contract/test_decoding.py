"""The quick decoder and the models: what the one takes the other takes, with the same values."""

import json
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, Field

from shared.contract.decoding import quick_decoder
from shared.contract.events import Fault, RowAccepted, RowResult, RowsSettled, RowStatus
from tests.support.factories import row_accepted

ROW: dict[str, Any] = json.loads(
    row_accepted(
        run_at="2031-01-01T00:00:00+02:00",
        related_terms=["a", "b"],
        dominant_color="#FFFFFF",
        asset_id=str(uuid4()),
        image_url=None,
    ).model_dump_json()
)
FAULT = Fault(code="missing", field="title", message="Field required", value=None)
SETTLED: dict[str, Any] = json.loads(
    RowsSettled(
        job_id=uuid4(),
        workspace_id=uuid4(),
        results=[
            RowResult(row_number=1, status=RowStatus.CREATED, pin_id=uuid4(), idempotency_key="k"),
            RowResult(
                row_number=2,
                status=RowStatus.FAILED,
                error_code="e",
                error_message="m",
                errors=[FAULT],
            ),
        ],
    ).model_dump_json()
)
HOSTILE: list[tuple[str, object]] = [
    ("version", 2),
    ("version", None),
    ("job_id", None),
    ("job_id", "nonsense"),
    ("job_id", "{413c8cf3-8740-4444-ae78-3e1bb9f31fe6}"),
    ("job_id", "c35ae88dd5f94899a91e6e8dc9dc1e9b"),
    ("row_number", 0),
    ("row_number", 501),
    ("row_number", "7"),
    ("row_number", 7.0),
    ("row_number", True),
    ("accepted_at", "2026-11-23T12:00:00"),
    ("accepted_at", "2026-11-23 12:00:00Z"),
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
]


def plain(value: Any) -> Any:
    """Models and the decoder's objects alike, as plain values."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    names = getattr(type(value), "model_fields", None) or getattr(value, "__struct_fields__", ())
    return {name: plain(getattr(value, name)) for name in names} if names else value


@pytest.mark.parametrize(("model", "document"), [(RowAccepted, ROW), (RowsSettled, SETTLED)])
def test_a_full_event_is_decoded_to_the_same_values(
    model: type[BaseModel], document: dict[str, Any]
) -> None:
    value = json.dumps(document).encode()
    assert plain(quick_decoder(model)(value)) == plain(model.model_validate_json(value))


@pytest.mark.parametrize(("field", "value"), HOSTILE)
def test_what_the_quick_decoder_takes_the_model_takes(field: str, value: object) -> None:
    document = json.dumps({**ROW, field: value}).encode()
    try:
        taken = quick_decoder(RowAccepted)(document)
    except ValueError:
        return
    assert plain(taken) == plain(RowAccepted.model_validate_json(document))


@pytest.mark.parametrize(
    "field", ["job_id", "workspace_id", "row_number", "accepted_at", "fingerprint", "row"]
)
def test_what_is_required_is_required(field: str) -> None:
    document = json.dumps({name: value for name, value in ROW.items() if name != field}).encode()
    with pytest.raises(ValueError, match=field):
        quick_decoder(RowAccepted)(document)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"null", b"\xff", b'{"version": NaN}'])
def test_what_is_no_event_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        quick_decoder(RowAccepted)(value)


def test_a_model_with_a_rule_that_has_no_equal_is_refused_at_once() -> None:
    class Ruled(BaseModel):
        name: str = Field(pattern="^a")

    with pytest.raises(TypeError, match="no equal"):
        quick_decoder(Ruled)
