"""JSON of any style is read back. Any other bytes become rows or a refusal."""

import json
from contextlib import suppress
from typing import Any
from uuid import uuid4

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.parsing.fast_path import FALLBACK_ERRORS, validate_fast
from services.ingest.parsing.rows import require_rows
from shared.contract.errors import ApiError
from shared.contract.events import MAX_ROW_FAULTS, PinContent
from shared.contract.pin_fields import MAX_RELATED_TERMS
from shared.contract.pins import PinSubmission, compute_fingerprint
from shared.contract.strict_json import parse_json
from shared.contract.wire import encode
from tests.property.api_errors import check_error
from tests.property.documents import (
    arbitrary_rows,
    json_documents,
    json_imports,
    mutated,
    valid_rows,
    values,
)
from tests.property.profiles import examples
from tests.support.events import parse_event
from tests.support.factories import submitted_row
from tests.support.imports import validate
from tests.support.strict_pins import StrictPinSubmission

REFUSALS = {"invalid_json", "invalid_payload", "empty_import", "too_many_rows"}
"""The error codes of an invalid document."""
EXACT = 2**53
"""Larger integers may be read as the nearest float. No field of a row is a number."""


def is_exact(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(map(is_exact, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or abs(value) < EXACT


@examples(40)
@given(values.filter(is_exact), st.booleans(), st.sampled_from([None, 2, "\t"]))
def test_json_of_any_style_is_read_back(
    value: Any, ascii_only: bool, indent: int | str | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert (
        parse_json(text.encode(errors="surrogatepass") if ascii_only else _escaped(text)) == value
    )


def _escaped(text: str) -> bytes:
    """Escapes lone surrogates, which can't be encoded."""
    return "".join(
        f"\\u{ord(sign):04x}" if 0xD800 <= ord(sign) < 0xE000 else sign for sign in text
    ).encode()


def check_read_or_refused(data: bytes) -> None:
    """Fails unless the document is read as rows or refused with a documented code."""
    try:
        rows = require_rows(parse_json(data))
    except ApiError as refusal:
        check_error(refusal, REFUSALS)
        return
    for strict in (False, True):
        parsed = validate(rows, strict=strict)
        numbers = [row.row_number for row in parsed.valid] + [
            result.row_number for result in parsed.failed
        ]
        assert sorted(numbers) == list(range(1, len(rows) + 1))
        for result in parsed.failed:
            assert result.error_message
            assert 1 <= len(result.errors or []) <= MAX_ROW_FAULTS
            assert encode(result)
            assert "\0" not in encode(result).decode().replace("\\u0000", "\0")


@examples(70)
@given(json_documents | mutated(json_documents) | mutated(json_imports) | st.binary(max_size=60))
@example(b"")
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"[" * 100_000 + b"]" * 100_000)
@example(b"[" + b"9" * 200_000 + b"]")
@example(b'[{"title":' + b"1" * 5000 + b"}]")
@example(b'[{"title": "\\ud800", "title": "\\ud800\\udc00", "idempotency_key": "\\u0000"}]')
@example(b'[{"related_terms": "' + b"," * 200_000 + b'"}]')
@example(b'[{"' + b'a":1,"' * 20_000 + b'b":1}]')
@example(b"\xef\xbb\xbf[{}]")
def test_a_damaged_document_is_read_or_refused(data: bytes) -> None:
    check_read_or_refused(data)


@examples(40)
@given(st.lists(valid_rows() | arbitrary_rows, min_size=1, max_size=5))
def test_rows_are_validated_independently(rows: list[dict[str, Any]]) -> None:
    together = validate(rows)
    alone = [validate([row]) for row in rows]
    assert [row.content for row in together.valid] == [
        row.content for parsed in alone for row in parsed.valid
    ]
    assert [result.errors for result in together.failed] == [
        result.errors for parsed in alone for result in parsed.failed
    ]
    assert all(
        len(json.loads(row.content).get("related_terms", [])) <= MAX_RELATED_TERMS
        for row in together.valid
    )


@examples(100)
@given(
    valid_rows()
    | arbitrary_rows
    | st.builds(lambda good, wrong: good | wrong, valid_rows(), arbitrary_rows)
)
@example({**submitted_row(), "idempotency_key": "\x1f", "title": "\x85"})
@example({**submitted_row(), "title": "a\0b"})
@example({**submitted_row(), "title": r"\u0000"})
@example({**submitted_row(), "alt_text": "\ud800"})
@example(
    {**submitted_row(), "account_id": "{12345678-1234-5678-1234-567812345678}", "asset_id": ""}
)
@example(
    {
        **submitted_row(),
        "run_at": "2031-01-01T00:00:00.1234567+02:00",
        "related_terms": " , ,",
        "dominant_color": "aaBBcc ",
    }
)
def test_a_row_that_passes_the_fast_path_equals_the_models_result(row: dict[str, Any]) -> None:
    with suppress(*FALLBACK_ERRORS):
        _, content, fingerprint = validate_fast(row)
        pin = StrictPinSubmission.model_validate(row)
        assert parse_event(PinContent, content) == pin.to_content()
        assert fingerprint == compute_fingerprint(pin).hex.encode()
        assert orjson.loads(content).keys() == pin.model_dump(exclude_none=True).keys()


def test_usual_rows_of_a_campaign_pass_the_fast_path() -> None:
    """If they did not, imports would take three times as long and no other test would fail."""
    every_field = submitted_row(
        alt_text="é",
        cover_image_url="https://c.example/x.png",
        related_terms=["a", "b"],
        dominant_color="aabbcc",
        run_at="2031-01-01T00:00:00+02:00",
    )
    assert every_field.keys() >= PinSubmission.model_fields.keys() - {
        "asset_id",
        "cover_image_asset_id",
    }
    for row in (
        every_field,
        {**every_field, "related_terms": "a, b"},
        submitted_row(image_url=None, asset_id=str(uuid4())),
    ):
        validate_fast(row)


@examples(40)
@given(valid_rows())
def test_generated_good_rows_fail_only_for_urls_and_times(row: dict[str, Any]) -> None:
    """Otherwise the properties above might not test valid rows.

    A refused row has an invalid URL, or a time near the ends of the calendar.
    """
    failed = validate([row]).failed
    assert {fault.field for result in failed for fault in result.errors or []} <= {
        "image_url",
        "link_url",
        "cover_image_url",
        "run_at",
    }
