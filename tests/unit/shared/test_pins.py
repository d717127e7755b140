"""The rules for one row, field by field (shared/contract/pins.py)."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from services.ingest.parsing.fast_path import FALLBACK_ERRORS, validate_fast
from shared.contract.events import MAX_ROW_FAULTS
from shared.contract.pins import (
    PinSubmission,
    compute_fingerprint,
    describe_first_fault,
    read_faults,
)
from shared.contract.wire import encode
from tests.support.factories import ACCOUNT, submitted_row
from tests.support.strict_pins import StrictPinSubmission


def faults(**fields: Any) -> list[tuple[str | None, str]]:
    with pytest.raises(ValidationError) as caught:
        PinSubmission.model_validate(submitted_row(**fields))
    return [(fault.field, fault.code) for fault in read_faults(caught.value)]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("account_id", "not-a-uuid", "uuid_parsing"),
        ("board_id", " ", "blank"),
        ("board_id", "b" * 256, "string_too_long"),
        ("title", "\t", "blank"),
        ("title", "t" * 101, "string_too_long"),
        ("title", 7, "string_type"),
        ("title", "\ud800", "string_unicode"),
        ("title", "a\0b", "control_character"),
        ("title", "a\x1fb", "control_character"),
        ("description", "a\x0bb", "control_character"),
        ("link_url", "https://shop.example/a\x08b", "control_character"),
        ("idempotency_key", "", "blank"),
        ("idempotency_key", "k" * 256, "string_too_long"),
        ("description", "d" * 801, "string_too_long"),
        ("alt_text", "a" * 501, "string_too_long"),
        ("link_url", "ftp://shop.example", "url_scheme"),
        ("link_url", "shop.example", "url_scheme"),
        ("link_url", "https://", "url_host"),
        ("link_url", "https:///path", "url_host"),
        ("link_url", "http://?q=1", "url_host"),
        ("link_url", "https://shop.example/a b", "white_space"),
        ("link_url", "https://shop.example/a\nb", "white_space"),
        ("image_url", "https://shop.example/a\tb", "white_space"),
        ("link_url", "https://shop.example/a\u00a0b", "white_space"),
        ("link_url", "https://shop.example/" + "x" * 2048, "string_too_long"),
        ("image_url", "javascript:alert(1)", "url_scheme"),
        ("related_terms", ["t"] * 51, "too_long"),
        ("related_terms", 5, "list_type"),
        ("dominant_color", "#12345", "color"),
        ("dominant_color", "blue", "color"),
        ("run_at", 1_800_000_000, "iso_datetime"),
        ("run_at", "1800000000", "iso_datetime"),
        ("run_at", "2027-01-01T10:00:00", "timezone_aware"),
        ("run_at", "0031-03-10T10:00:00Z", "before_2010"),
        ("run_at", "2009-12-31T23:59:59Z", "before_2010"),
        ("run_at", "2027-13-01T10:00:00Z", "invalid_time"),
    ],
)
def test_an_invalid_field_is_reported_with_its_code(field: str, value: object, code: str) -> None:
    assert faults(**{field: value}) == [(field, code)]


def test_a_related_terms_index_counts_blank_terms_too() -> None:
    assert faults(related_terms=["ok", " ", "t" * 101]) == [("related_terms.2", "string_too_long")]
    assert faults(related_terms="ok,," + "t" * 101) == [("related_terms.2", "string_too_long")]


def test_blank_related_terms_are_not_counted() -> None:
    assert (
        len(
            PinSubmission.model_validate(submitted_row(related_terms=["t", " "] * 50)).related_terms
            or []
        )
        == 50
    )
    assert (
        PinSubmission.model_validate(submitted_row(related_terms=[" ", ""])).related_terms is None
    )


def test_a_million_related_terms_are_one_fault() -> None:
    assert faults(related_terms=[5] * 1_000_000) == [("related_terms", "too_long")]


def test_all_faults_of_a_row_are_reported_together() -> None:
    assert faults(
        title=" ",
        image_url=None,
        cover_image_url="no",
        cover_image_asset_id=str(ACCOUNT),
        description="a\0",
    ) == [
        ("title", "blank"),
        ("cover_image_url", "url_scheme"),
        (None, "media_source"),
        (None, "cover_source"),
        ("description", "control_character"),
    ]


def test_an_invalid_media_source_is_not_also_reported_as_missing() -> None:
    assert faults(image_url="no url") == [("image_url", "url_scheme")]


def test_a_strict_row_reports_unknown_fields_and_faults_of_the_whole_row() -> None:
    with pytest.raises(ValidationError) as caught:
        StrictPinSubmission.model_validate(submitted_row(colour="blue", image_url=None))
    assert [fault.code for fault in read_faults(caught.value)] == [
        "extra_forbidden",
        "media_source",
    ]


def test_every_field_with_a_control_character_is_reported() -> None:
    texts = ["board_id", "title", "description", "alt_text", "link_url", "image_url"]
    texts += ["cover_image_url", "idempotency_key"]
    values = submitted_row()
    sent: dict[str, Any] = {name: f"{values.get(name, 'https://a.example/')}\0x" for name in texts}
    reported = faults(**sent, related_terms=["fine", "a\0b"])
    named = {name for name, code in reported if code == "control_character"}
    assert named == {*texts, "related_terms"}


@pytest.mark.parametrize("field", sorted(PinSubmission.model_fields))
@pytest.mark.parametrize("character", ["\0", "\x08", "\x0b", "\x0c", "\x0e", "\x1f"])
def test_every_field_refuses_control_characters(field: str, character: str) -> None:
    """Checks each field alone. Ids, colors and times refuse the characters by their own rules."""
    values: dict[str, Any] = {
        "asset_id": str(ACCOUNT),
        "dominant_color": "#aabbcc",
        "run_at": "2027-01-01T10:00:00Z",
        "related_terms": "a,b",
    }
    value = (submitted_row() | values).get(field, "https://a.example/")
    assert field in [name for name, _ in faults(**{field: f"{value}{character}x"})]


def test_a_fault_says_which_characters_a_text_must_not_contain() -> None:
    with pytest.raises(ValidationError) as caught:
        PinSubmission.model_validate(submitted_row(title="a\x1bb"))
    _, message = describe_first_fault(read_faults(caught.value))
    expected = "must not contain control characters other than tab and line break"
    assert message == f"title: {expected}"


@pytest.mark.parametrize(
    "text", ["a\tb", "a\nb", "a\r\nb", "a\x7fb", "a\x85b", "a\u2028b", "\\b\\f\\u00"]
)
def test_a_text_may_contain_tabs_line_breaks_and_characters_after_c0(text: str) -> None:
    pin = PinSubmission.model_validate(submitted_row(title=text, related_terms=[text]))
    assert (pin.title, pin.related_terms) == (text, [text])


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, 0x85])
@pytest.mark.parametrize(
    "field", ["title", "board_id", "idempotency_key", "link_url", "related_terms"]
)
def test_the_fast_path_accepts_no_control_character_that_the_model_refuses(
    field: str, code: int
) -> None:
    """shared/contract/import_limits.py computes the size of an import's batch from this rule."""
    row = submitted_row(**{field: f"https://a.example/{chr(code)}x"})
    try:
        pin = PinSubmission.model_validate(row)
    except ValidationError:
        with pytest.raises(FALLBACK_ERRORS):
            validate_fast(row)
    else:
        assert len(encode(pin.to_content())) < 2 * len(json.dumps(row))
        with suppress(*FALLBACK_ERRORS):
            assert len(validate_fast(row)[1]) < 2 * len(json.dumps(row))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_url": None}, "Either image_url or asset_id must be provided"),
        (
            {"asset_id": "7b0f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01"},
            "Provide either image_url or asset_id, not both",
        ),
    ],
)
def test_a_pin_needs_exactly_one_media_source(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PinSubmission.model_validate(submitted_row(**fields))
    assert describe_first_fault(read_faults(caught.value))[1] == message


def test_the_first_fault_is_described_with_its_field() -> None:
    with pytest.raises(ValidationError) as caught:
        PinSubmission.model_validate(submitted_row(board_id=None, title=None))
    assert describe_first_fault(read_faults(caught.value)) == (
        "validation_error",
        "board_id: is required",
    )


def test_a_rejected_value_is_truncated_to_200_characters_and_encodable() -> None:
    with pytest.raises(ValidationError) as caught:
        PinSubmission.model_validate(submitted_row(title="\ud800\0" + "x" * 1000))
    value = read_faults(caught.value)[0].value
    assert value is not None
    assert len(value) == 200
    value.encode()
    assert "\0" not in value


def test_a_row_reports_at_most_twenty_faults() -> None:
    with pytest.raises(ValidationError) as caught:
        PinSubmission.model_validate(submitted_row(related_terms=[5] * 50))
    assert len(read_faults(caught.value)) == MAX_ROW_FAULTS


def test_white_space_around_every_value_is_dropped() -> None:
    pin = PinSubmission.model_validate(
        submitted_row(
            idempotency_key=" k ",
            board_id="\tb ",
            title=" Lamps ",
            description="\u00a0Light\n",
            alt_text="\u3000lamp ",
            link_url=" https://shop.example/ ",
        )
    )
    assert (pin.idempotency_key, pin.board_id, pin.title) == ("k", "b", "Lamps")
    assert (pin.description, pin.alt_text) == ("Light", "lamp")
    assert pin.link_url == "https://shop.example/"


def test_white_space_around_run_at_is_dropped() -> None:
    assert PinSubmission.model_validate(
        submitted_row(run_at=" 2027-01-01T01:00:00Z\t")
    ).run_at == datetime(2027, 1, 1, 1, tzinfo=UTC)


def test_run_at_becomes_utc() -> None:
    pin = PinSubmission.model_validate(submitted_row(run_at="2027-01-01T01:00:00+02:00"))
    assert pin.run_at == datetime(2026, 12, 31, 23, tzinfo=UTC)


def test_related_terms_may_be_a_comma_separated_text() -> None:
    assert PinSubmission.model_validate(
        submitted_row(related_terms=" lamps, ,light ")
    ).related_terms == ["lamps", "light"]


def test_the_number_sign_of_a_color_is_optional_and_letters_become_upper_case() -> None:
    assert (
        PinSubmission.model_validate(submitted_row(dominant_color="6e7874")).dominant_color
        == "#6E7874"
    )


def test_a_url_is_kept_as_it_was_sent() -> None:
    sent = "HTTPS://Shop.Example:443/Lamps?q=Ä"
    assert PinSubmission.model_validate(submitted_row(link_url=sent)).link_url == sent


def test_null_counts_as_absent() -> None:
    assert (
        PinSubmission.model_validate(
            {**submitted_row(), "description": None, "run_at": None}
        ).run_at
        is None
    )


def test_unknown_fields_are_ignored_unless_strict() -> None:
    row = {**submitted_row(), "campaign": "autumn"}
    PinSubmission.model_validate(row)
    with pytest.raises(ValidationError) as caught:
        StrictPinSubmission.model_validate(row)
    assert [(fault.field, fault.code) for fault in read_faults(caught.value)] == [
        ("campaign", "extra_forbidden")
    ]


def fingerprint(**fields: Any) -> Any:
    return compute_fingerprint(PinSubmission.model_validate(submitted_row(**fields)))


def test_the_fingerprint_depends_on_content_and_not_on_the_key() -> None:
    assert fingerprint(idempotency_key="a") == fingerprint(idempotency_key="b")
    assert fingerprint(title="Lamps") != fingerprint(title="Lights")
    assert fingerprint(run_at="2027-01-01T01:00:00+02:00") == fingerprint(
        run_at="2026-12-31T23:00:00Z"
    )


def test_the_fingerprint_normalizes_urls_as_browsers_do() -> None:
    assert fingerprint(link_url="HTTPS://Shop.Example:443/a") == fingerprint(
        link_url="https://shop.example/a"
    )
    assert fingerprint(link_url="https://shop.example/a") != fingerprint(
        link_url="https://shop.example/A"
    )


def test_the_fingerprint_of_the_sent_content_is_the_same() -> None:
    submission = PinSubmission.model_validate(
        submitted_row(run_at="2027-01-01T01:00:00+02:00", related_terms="a,b")
    )
    assert compute_fingerprint(submission.to_content()) == compute_fingerprint(submission)


@pytest.mark.parametrize(
    ("fields", "digits"),
    [
        ({}, "37914492c1fd8519ff028b3c879dde19"),
        ({"link_url": "HTTPS://Bücher.example:443/a/../b?q=ü"}, "8ffa7249dbeafca5203886f2beb5f02a"),
        (
            {
                "alt_text": "é",
                "cover_image_url": "https://c.example/x.png",
                "related_terms": "a, b",
                "dominant_color": "aabbcc",
                "run_at": "2031-01-01T00:00:00+02:00",
            },
            "ccbdff35c2ef51d399fe021b6a8dbb14",
        ),
    ],
)
def test_fingerprints_of_earlier_releases_stay_the_same(
    fields: dict[str, Any], digits: str
) -> None:
    """Otherwise, after an upgrade, every repeated row would be reported as changed."""
    row = submitted_row(board_id="board-1", **fields)
    assert compute_fingerprint(PinSubmission.model_validate(row)).hex == digits


def test_the_fast_path_computes_the_same_fingerprint() -> None:
    row = submitted_row(related_terms="a, b", run_at="2031-01-01T00:00:00+02:00")
    pin = PinSubmission.model_validate(row)
    assert validate_fast(row)[2] == compute_fingerprint(pin).hex.encode()
