"""The state of the pin that has a key, and the fields in which sent content differs from it."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from services.publisher.existing_pins import (
    COMPARED_FIELDS,
    find_differences,
    find_existing_state,
)
from services.publisher.model import PinState
from shared.contract.events import MAX_DIFFERENCE_LENGTH, FieldDifference, PinContent
from shared.contract.pins import PinSubmission, compute_fingerprint
from tests.support.factories import submitted_row

PAST, FUTURE = "2020-05-01T09:00:00Z", "2031-05-01T09:00:00Z"


def content(**fields: Any) -> PinContent:
    return PinSubmission.model_validate(
        submitted_row(**{"idempotency_key": "k", **fields})
    ).to_content()


def differences(stored: PinContent, sent: PinContent) -> list[FieldDifference]:
    return find_differences(stored, compute_fingerprint(stored), sent)


@pytest.mark.parametrize(
    ("state", "is_deleted", "is_due", "expected"),
    [
        (PinState.PUBLISHED, False, False, "published"),
        (PinState.PUBLISHED, False, True, "published"),
        (PinState.SCHEDULED, False, False, "scheduled"),
        (PinState.SCHEDULED, False, True, "queued"),
        (PinState.FAILED, False, True, "failed"),
        (PinState.CANCELED, False, True, "canceled"),
        (PinState.CANCELED, True, False, "deleted"),
        (PinState.PUBLISHED, True, False, "deleted"),
        (PinState.QUEUED, False, False, "queued"),
        (PinState.QUEUED, False, True, "queued"),
        (PinState.QUEUED, True, False, "deleted"),
        (PinState.PUBLISHING, False, True, "publishing"),
        (PinState.CONFIRMING, False, False, "publishing"),
    ],
)
def test_the_state_of_an_existing_pin(
    state: PinState, is_deleted: bool, is_due: bool, expected: str
) -> None:
    assert find_existing_state(state, is_deleted=is_deleted, is_due=is_due) == expected


def test_exactly_the_fields_of_the_fingerprint_are_compared() -> None:
    stored = content(image_url=None, asset_id=str(uuid4()))
    for name in COMPARED_FIELDS:
        is_id = name.endswith("_id") and name != "board_id"
        value: Any = uuid4() if is_id else "https://other.example/"
        if name == "run_at":
            value = datetime(2031, 5, 1, tzinfo=UTC)
        sent = replace(stored, **{name: [value] if name == "related_terms" else value})
        assert compute_fingerprint(sent) != compute_fingerprint(stored)
        assert [difference.field for difference in differences(stored, sent)] == [name]
    assert compute_fingerprint(replace(stored, idempotency_key="x")) == compute_fingerprint(stored)
    assert differences(stored, replace(stored, idempotency_key="x")) == []


def test_urls_are_compared_as_browsers_write_them() -> None:
    stored = content(link_url="HTTPS://Shop.example:443/a%20b")
    same = content(link_url="https://shop.example/a%20b", title="Other")
    assert [difference.field for difference in differences(stored, same)] == ["title"]


def test_a_value_that_is_no_url_is_compared_as_sent() -> None:
    """Ingest would reject it, but other producers to `imports` may send it."""
    stored = replace(content(), link_url="no url")
    sent = replace(stored, image_url="neither", run_at=datetime(2020, 5, 1, tzinfo=UTC))
    fields = [item.field for item in find_differences(stored, uuid4(), sent)]
    assert fields == ["image_url", "run_at"]


def test_values_are_shown_as_short_text() -> None:
    stored = content(related_terms=["lamp", "light"], run_at=FUTURE)
    moved = datetime(2031, 6, 1, 11, tzinfo=timezone(timedelta(hours=2)))
    sent = replace(stored, related_terms=None, run_at=moved, title="a\0b")
    assert differences(stored, sent) == [
        FieldDifference(field="title", stored="Autumn lamps", sent="a\N{REPLACEMENT CHARACTER}b"),
        FieldDifference(field="related_terms", stored="lamp, light", sent=None),
        FieldDifference(field="run_at", stored="2031-05-01T09:00:00Z", sent="2031-06-01T09:00:00Z"),
    ]


@pytest.mark.parametrize(
    ("stored", "sent", "shown"),
    [
        ("a" * 300, "b" * 300, ("a" * 100, "b" * 100)),
        ("a" * 300, "a" * 300 + "b", ("…" + "a" * 20, "…" + "a" * 20 + "b")),
        ("a" * 200 + "x" * 200, "a" * 200, ("…" + "a" * 20 + "x" * 79, "…" + "a" * 20)),
    ],
)
def test_long_values_are_cut_so_that_the_difference_is_seen(
    stored: str, sent: str, shown: tuple[str, str]
) -> None:
    (difference,) = differences(content(description=stored), content(description=sent))
    assert (difference.stored, difference.sent) == shown
    assert max(map(len, shown)) <= MAX_DIFFERENCE_LENGTH


def test_a_time_in_the_past_that_was_sent_before_is_no_difference() -> None:
    """A pin that was published at once has no stored `run_at`, but its fingerprint has it."""
    first = content(run_at=PAST)
    stored, fingerprint = replace(first, run_at=None), compute_fingerprint(first)
    again = replace(first, title="Other")
    assert [item.field for item in find_differences(stored, fingerprint, again)] == ["title"]
    another = content(run_at="2020-06-01T09:00:00Z")
    assert find_differences(stored, fingerprint, another) == [
        FieldDifference(field="run_at", stored=None, sent="2020-06-01T09:00:00Z")
    ]
    assert find_differences(stored, fingerprint, stored) == []


def test_a_pin_that_an_edit_made_equal_has_no_differences() -> None:
    first, edited = content(title="First"), content(title="Edited")
    assert find_differences(edited, compute_fingerprint(first), edited) == []


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_has_no_form_in_utc_is_shown_as_sent(time: str) -> None:
    sent = replace(content(), run_at=datetime.fromisoformat(time))
    (difference,) = differences(content(run_at=FUTURE), sent)
    assert difference.sent == time
