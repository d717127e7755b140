"""The parsing of requests to the publisher."""

from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import asdict
from pinbridge_sdk.models.pins import PinUpdate
from pinbridge_sdk.models.schedules import ScheduleUpdate

from services.publisher.pins.request_bodies import (
    ANSWER_FIELDS,
    CONTENT_FIELDS,
    EDITABLE_PIN_FIELDS,
    EDITABLE_SCHEDULE_FIELDS,
    build_changed_values,
    parse_changes,
    parse_ids,
    parse_pin,
)
from services.publisher.pins.schemas.pins import PublishedPinResponse
from services.publisher.pins.schemas.schedules import ScheduleResponse
from shared.contract.errors import ApiError
from shared.contract.events import MAX_ROW_FAULTS
from shared.contract.pins import PinSubmission
from tests.support.factories import submitted_row

ASSET = uuid4()


def build_row(**fields: Any) -> dict[str, Any]:
    return asdict(PinSubmission.model_validate(submitted_row(**fields)).to_content())


def test_every_invalid_id_is_reported() -> None:
    with pytest.raises(ApiError) as refused:
        parse_ids({"ids": [str(uuid4()), "x", None]}, 3)
    assert [fault["field"] for fault in refused.value.details["errors"]] == ["ids.1", "ids.2"]


def test_an_id_may_have_any_form_that_python_parses() -> None:
    pin_id = uuid4()
    assert parse_ids({"ids": [str(pin_id), pin_id.hex, str(pin_id).upper()]}, 3) == [pin_id] * 3


def test_null_is_a_change() -> None:
    assert parse_changes({"title": None}, ("title", "alt_text")) == {"title": None}


def test_every_field_that_an_edit_cannot_change_is_a_fault() -> None:
    document = {"title": "x", "run_at": None, "id": "1", "Alt Text": "x", "link": "x", "x\0": 1}
    with pytest.raises(ApiError) as refused:
        parse_changes(document, EDITABLE_PIN_FIELDS)
    faults = [
        (fault["field"], fault["code"], fault["message"].partition(". ")[2])
        for fault in refused.value.details["errors"]
    ]
    fields = ", ".join(EDITABLE_PIN_FIELDS)
    assert [fault[:2] for fault in faults] == [
        ("Alt Text", "unknown_field"),
        ("link", "unknown_field"),
        ("x\N{REPLACEMENT CHARACTER}", "unknown_field"),
        ("run_at", "not_editable"),
        ("id", "not_editable"),
    ]
    assert [advice for *_, advice in faults[:3]] == [
        "Did you mean alt_text? Correct its name.",
        "Did you mean link_url? Correct its name.",
        f"Send only: {fields}.",
    ]
    assert refused.value.code == "unknown_field"
    assert refused.value.message == (
        "Alt Text: There is no such field. Did you mean alt_text? Correct its name."
    )
    assert faults[3][2] == f"Send only: {fields}."


def test_the_faults_of_an_edit_are_limited() -> None:
    with pytest.raises(ApiError) as refused:
        parse_changes({f"field {number}": 1 for number in range(1000)}, EDITABLE_PIN_FIELDS)
    assert len(refused.value.details["errors"]) == MAX_ROW_FAULTS


def test_the_fields_of_answers_are_known() -> None:
    shown = {*PublishedPinResponse.model_fields, *ScheduleResponse.model_fields}
    assert shown - set(CONTENT_FIELDS) == ANSWER_FIELDS


def test_everything_that_the_sdk_can_edit_is_editable() -> None:
    assert set(PinUpdate.model_fields) <= set(EDITABLE_PIN_FIELDS)
    assert set(ScheduleUpdate.model_fields) <= set(EDITABLE_SCHEDULE_FIELDS)


def test_a_pin_may_have_its_key_in_the_header() -> None:
    document = submitted_row(idempotency_key=None)
    assert parse_pin(document, "k").idempotency_key == "k"
    assert parse_pin({**document, "idempotency_key": " k "}, "k").idempotency_key == "k"
    with pytest.raises(ApiError) as refused:
        parse_pin(document)
    assert [fault["field"] for fault in refused.value.details["errors"]] == ["idempotency_key"]


@pytest.mark.parametrize(
    ("stored", "sent", "changes"),
    [
        ({}, {"asset_id": str(ASSET)}, {"asset_id": ASSET, "image_url": None}),
        (
            {},
            {"cover_image_url": "https://c.example"},
            {"cover_image_url": "https://c.example", "cover_image_asset_id": None},
        ),
        ({}, {"title": "New"}, {"title": "New"}),
        ({"alt_text": "Old"}, {"alt_text": None}, {"alt_text": None}),
        ({"run_at": "2031-01-01T00:00:00Z"}, {"board_id": " b "}, {"board_id": "b"}),
    ],
)
def test_an_edit_changes_the_sent_fields_and_clears_the_other_image_source(
    stored: dict[str, Any], sent: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert build_changed_values(PinSubmission, build_row(**stored), sent) == changes


def test_the_edited_pin_is_validated_as_a_whole() -> None:
    with pytest.raises(ApiError) as refused:
        build_changed_values(PinSubmission, build_row(), {"image_url": None, "title": ""})
    assert [fault["code"] for fault in refused.value.details["errors"]] == ["blank", "media_source"]
