"""The parsing of requests to the publisher."""

from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import asdict

from services.publisher.pins.request_bodies import build_changed_values, parse_changes, parse_ids
from shared.contract.errors import ApiError
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


def test_only_editable_fields_are_changed_and_null_is_a_change() -> None:
    assert parse_changes(
        {"title": None, "x": 1, "idempotency_key": "k"}, ("title", "alt_text")
    ) == {"title": None}


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
