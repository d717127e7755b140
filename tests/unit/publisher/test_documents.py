"""What clients send to the publisher, read."""

from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import asdict

from services.publisher.pins.requests import build_changed_values, parse_changes, parse_ids
from shared.contract.errors import ApiError
from shared.contract.pins import PinSubmission
from tests.support.factories import submitted

ASSET = uuid4()


def row(**fields: Any) -> dict[str, Any]:
    return asdict(PinSubmission.model_validate(submitted(**fields)).to_content())


def test_every_id_that_is_none_is_named() -> None:
    with pytest.raises(ApiError) as refused:
        parse_ids({"ids": [str(uuid4()), "x", None]}, 3)
    assert [fault["field"] for fault in refused.value.details["errors"]] == ["ids.1", "ids.2"]


def test_an_id_may_be_written_in_any_way_that_python_reads() -> None:
    one = uuid4()
    assert parse_ids({"ids": [str(one), one.hex, str(one).upper()]}, 3) == [one] * 3


def test_only_what_may_be_changed_is_taken_and_null_is_a_change() -> None:
    assert parse_changes(
        {"title": None, "x": 1, "idempotency_key": "k"}, ("title", "alt_text")
    ) == {"title": None}


@pytest.mark.parametrize(
    ("stands", "given", "changes"),
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
def test_what_changes_is_what_is_given_and_what_it_replaces(
    stands: dict[str, Any], given: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert build_changed_values(PinSubmission, row(**stands), given) == changes


def test_what_comes_out_is_checked_as_a_whole() -> None:
    with pytest.raises(ApiError) as refused:
        build_changed_values(PinSubmission, row(), {"image_url": None, "title": ""})
    assert [fault["code"] for fault in refused.value.details["errors"]] == ["blank", "media_source"]
