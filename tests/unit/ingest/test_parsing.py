"""Faults that refuse a whole document and faults that fail one row."""

from typing import Any

import pytest

from services.ingest.parsing.rows import require_row_count, require_rows
from shared.contract.errors import ApiError
from shared.contract.strict_json import parse_json
from shared.spreadsheets.table import WrongCellCount
from tests.support.factories import submitted_row
from tests.support.imports import validate


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"[{]", "invalid_json"),
        (b"[NaN]", "invalid_json"),
        (b'[{"title": Infinity}]', "invalid_json"),
        (b"\xff[]", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"{}", "invalid_payload"),
        (b"null", "invalid_payload"),
        (b'"text"', "invalid_payload"),
        (b"[1]", "invalid_payload"),
        (b"[{}, []]", "invalid_payload"),
        (b"[]", "empty_import"),
        (b"[" + b"{}," * 500 + b"{}]", "too_many_rows"),
    ],
)
def test_a_document_that_is_not_an_import_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        require_rows(parse_json(body))
    assert refused.value.code == code


def test_a_file_with_a_header_only_is_told_from_an_empty_list() -> None:
    messages = []
    for has_header in (False, True):
        with pytest.raises(ApiError) as refused:
            require_row_count(0, has_header=has_header)
        messages.append(refused.value.message)
    assert messages == [
        "This import has no rows. Send at least one.",
        "The file has a header but no rows. Write at least one row below the header.",
    ]


def test_a_syntax_error_is_reported_with_its_position() -> None:
    with pytest.raises(ApiError) as refused:
        parse_json(b'[\n {"a": 1,}\n]')
    assert refused.value.details == {"line": 2, "column": 10, "offset": 11}


def test_a_lone_surrogate_fails_only_its_row() -> None:
    body = rb'[{"title": "\ud800"}, {"title": "fine"}]'
    assert len(validate(require_rows(parse_json(body))).failed) == 2
    good = submitted_row()
    parsed = validate([{**good, "title": "\ud800"}, good])
    assert [result.row_number for result in parsed.failed] == [1]
    assert [row.row_number for row in parsed.valid] == [2]


def test_every_fault_of_a_row_is_reported_in_order() -> None:
    parsed = validate([{"title": "x" * 101, "image_url": "https://a.example/b.jpg"}])
    (result,) = parsed.failed
    assert (result.error_code, result.error_message) == (
        "validation_error",
        "account_id: is required",
    )
    assert [fault.field for fault in result.errors or []] == [
        "account_id",
        "board_id",
        "title",
        "idempotency_key",
    ]


def test_a_failed_row_is_reported_with_its_key() -> None:
    (result,) = validate([submitted_row(title="", idempotency_key="  k ")]).failed
    assert result.idempotency_key == "k"


def test_unknown_fields_are_ignored_unless_strict() -> None:
    row = {**submitted_row(), "campaign": "autumn"}
    assert not validate([row]).failed
    (result,) = validate([row], strict=True).failed
    assert (result.error_code, result.error_message) == (
        "unknown_field",
        "campaign: There is no such field. Remove it, or import without strict=true.",
    )


def test_a_row_with_a_wrong_cell_count_fails_alone() -> None:
    rows: list[Any] = [
        submitted_row(),
        WrongCellCount("The row has 10 cells; the header has 9."),
        submitted_row(),
    ]
    parsed = validate(rows)
    assert [row.row_number for row in parsed.valid] == [1, 3]
    assert parsed.failed[0].error_message == "The row has 10 cells; the header has 9."
    assert parsed.total == 3
