"""Rows that need more than the fast path: names, aliases, slips, times, and all faults at once."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import orjson
import pytest

from services.ingest.parsing.directory import Directory
from services.ingest.parsing.policy import ReadingPolicy
from services.ingest.parsing.rows import ParsedRows
from shared.access.model import Account, Board
from shared.contract.events import Notice
from shared.contract.field_names import MAX_UNKNOWN_NAMES
from tests.support.factories import ACCOUNT, BOARD, NOON, submitted_row
from tests.support.imports import validate

OTHER = UUID("7b0f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d02")
DIRECTORY = Directory(
    [Account(ACCOUNT, "Lamp shop", "lampshop"), Account(OTHER, "Garden", "garden")],
    [
        Board(ACCOUNT, BOARD, "Autumn"),
        Board(ACCOUNT, "549755813888000002", "Winter"),
        Board(ACCOUNT, "549755813888000003", "winter"),
        Board(ACCOUNT, "549755813888000004", "Äpfel"),
        Board(ACCOUNT, "549755813888000005", "2031"),
        Board(OTHER, "549755813888000006", "Autumn"),
    ],
)
BERLIN = ZoneInfo("Europe/Berlin")


def read(*rows: dict[str, Any], **policy: Any) -> ParsedRows:
    """Reads rows of an import at NOON, with the directory."""
    return validate(rows, ReadingPolicy(NOON, **policy), directory=DIRECTORY)


def content(parsed: ParsedRows) -> dict[str, Any]:
    """Returns the content of the only row, which must be valid."""
    assert parsed.failed == []
    (row,) = parsed.valid
    document: dict[str, Any] = orjson.loads(row.content)
    return document


def faults(parsed: ParsedRows) -> list[tuple[str | None, str]]:
    """Returns field and code of the faults of the only row, which must have failed."""
    assert parsed.valid == []
    (result,) = parsed.failed
    return [(fault.field, fault.code) for fault in result.errors or []]


def warning(parsed: ParsedRows, code: str) -> Notice:
    (notice,) = [notice for notice in parsed.warnings if notice.code == code]
    return notice


@pytest.mark.parametrize(
    "name", ["Lamp shop", "LAMP SHOP", " lamp shop ", "lampshop", "@lampshop", str(ACCOUNT)]
)
def test_an_account_may_be_given_by_its_name(name: str) -> None:
    assert content(read(submitted_row(account_id=name)))["account_id"] == str(ACCOUNT)


@pytest.mark.parametrize(
    ("name", "board"),
    [
        ("Autumn", BOARD),
        ("autumn", BOARD),
        ("Winter", "549755813888000002"),
        ("winter", "549755813888000003"),
        ("äpfel", "549755813888000004"),
        ("2031", "549755813888000005"),
        (f" {BOARD} ", BOARD),
    ],
)
def test_a_board_may_be_given_by_its_name(name: str, board: str) -> None:
    assert content(read(submitted_row(board_id=name)))["board_id"] == board


def test_the_board_of_a_name_belongs_to_the_rows_account() -> None:
    row = submitted_row(account_id="Garden", board_id="Autumn")
    assert content(read(row))["board_id"] == "549755813888000006"


def test_a_name_that_several_boards_have_fails_with_their_ids() -> None:
    parsed = read(submitted_row(board_id="WINTER"))
    assert faults(parsed) == [("board_id", "ambiguous_name")]
    assert "549755813888000002, 549755813888000003" in str(parsed.failed[0].error_message) or (
        "549755813888000003, 549755813888000002" in str(parsed.failed[0].error_message)
    )


def test_a_board_that_is_neither_id_nor_name_is_left_to_the_publisher() -> None:
    assert content(read(submitted_row(board_id="Summer")))["board_id"] == "Summer"


def test_an_account_that_is_neither_id_nor_name_fails() -> None:
    parsed = read(submitted_row(account_id="Lamp"))
    assert faults(parsed) == [("account_id", "uuid_parsing")]
    assert parsed.failed[0].error_message == (
        "account_id: no account has the id or name Lamp. See the accounts: "
        "GET /v1/pinterest/accounts, or pinflow template."
    )


def test_all_faults_are_found_in_one_round_those_of_account_and_board_too() -> None:
    stranger = uuid4()
    parsed = read(submitted_row(account_id=str(stranger), title="", run_at="soon"))
    assert faults(parsed) == [
        ("title", "blank"),
        ("run_at", "iso_datetime"),
        ("account_id", "account_not_found"),
    ]
    parsed = read(submitted_row(board_id="549755813888000099", title=""))
    assert faults(parsed) == [("title", "blank"), ("board_id", "board_not_found")]
    assert parsed.failed[0].error_code == "validation_error"


def test_without_a_directory_a_failed_row_says_that_it_was_not_checked() -> None:
    parsed = validate([submitted_row(title="")], ReadingPolicy(NOON))
    assert [notice.code for notice in parsed.warnings] == ["not_checked"]


def test_a_field_that_is_nearly_known_fails_its_row_alone() -> None:
    parsed = read(submitted_row(run_At="2031-01-01T00:00:00Z"), submitted_row())
    (result,) = parsed.failed
    assert (result.row_number, result.error_code) == (1, "unknown_field")
    assert result.error_message == (
        "run_At: There is no such field. Did you mean run_at? Correct its name."
    )
    assert [row.row_number for row in parsed.valid] == [2]


def test_an_alias_is_read_with_a_warning() -> None:
    parsed = read({**submitted_row(link_url=None), "link": "https://shop.example/a"})
    assert content(parsed)["link_url"] == "https://shop.example/a"
    notice = warning(parsed, "field_aliases")
    assert notice.message == "Fields were read under other names: link as link_url."
    assert notice.row_numbers == [1]


def test_a_field_and_its_alias_in_one_row_fail() -> None:
    parsed = read({**submitted_row(), "Link": "https://shop.example/a"})
    assert faults(parsed) == [("Link", "duplicate_field")]


def test_any_other_unknown_field_is_a_warning_with_its_rows() -> None:
    parsed = read(submitted_row(), {**submitted_row(), "price": 5}, {**submitted_row(), "sku": 1})
    assert len(parsed.valid) == 3
    notice = warning(parsed, "unknown_fields")
    assert "price, sku" in notice.message
    assert notice.row_numbers == [2, 3]


def test_strict_fails_a_row_with_an_unknown_field() -> None:
    parsed = read({**submitted_row(), "price": 5}, strict=True)
    assert faults(parsed) == [("price", "unknown_field")]


def test_blank_optional_values_count_as_absent() -> None:
    parsed = read(
        submitted_row(description="", alt_text=" ", run_at="", asset_id="", dominant_color="")
    )
    assert content(parsed).keys() == {
        "account_id",
        "board_id",
        "title",
        "idempotency_key",
        "link_url",
        "image_url",
    }


def test_a_row_without_account_gets_the_default_account() -> None:
    parsed = read(
        submitted_row(account_id=None),
        submitted_row(account_id=" "),
        submitted_row(account_id=str(OTHER), board_id="Autumn"),
        account_id=ACCOUNT,
    )
    accounts = [orjson.loads(row.content)["account_id"] for row in parsed.valid]
    assert accounts == [str(ACCOUNT), str(ACCOUNT), str(OTHER)]


def test_a_local_time_is_read_in_the_time_zone_of_the_import() -> None:
    parsed = read(submitted_row(run_at="2031-03-10 10:00"), zone=BERLIN)
    assert content(parsed)["run_at"] == "2031-03-10T09:00:00Z"
    assert (parsed.publishing_now, parsed.scheduled_for_later) == (0, 1)


def test_an_ambiguous_local_time_is_a_warning() -> None:
    parsed = read(submitted_row(), submitted_row(run_at="2031-10-26T02:30"), zone=BERLIN)
    assert warning(parsed, "ambiguous_local_time").row_numbers == [2]


def test_times_that_have_passed_are_counted_and_published_at_once() -> None:
    past = (NOON - timedelta(seconds=1)).isoformat()
    parsed = read(
        submitted_row(run_at=past),
        submitted_row(),
        submitted_row(run_at=NOON.isoformat()),
        submitted_row(run_at="2031-01-01T00:00:00Z"),
    )
    notice = warning(parsed, "past_run_at")
    assert notice.row_numbers == [1, 3]
    assert notice.message.startswith("2 rows have a run_at that has passed")
    notice = warning(read(submitted_row(run_at=past)), "past_run_at")
    assert notice.message.startswith("1 row has a run_at that has passed")
    assert (parsed.publishing_now, parsed.scheduled_for_later) == (3, 1)


def test_times_that_have_passed_fail_if_the_client_asks_for_it() -> None:
    past = (NOON - timedelta(seconds=1)).isoformat()
    parsed = read(submitted_row(run_at=past), fails_past_run_at=True)
    assert faults(parsed) == [("run_at", "run_at_in_past")]
    assert parsed.failed[0].error_code == "run_at_in_past"
    parsed = read(submitted_row(run_at=past, title=""), fails_past_run_at=True)
    assert faults(parsed) == [("title", "blank"), ("run_at", "run_at_in_past")]


def test_rows_that_share_a_key_with_different_content_are_a_warning() -> None:
    key = "4.00638E+12"
    parsed = read(
        *(submitted_row(title=f"Product {n}", idempotency_key=key) for n in range(3)),
        submitted_row(title="same", idempotency_key="k"),
        submitted_row(title="same", idempotency_key="k"),
    )
    assert len(parsed.valid) == 5
    notice = warning(parsed, "duplicate_keys")
    assert notice.row_numbers == [1, 2, 3]
    assert "4.00638E+12 in rows 1, 2, 3" in notice.message
    assert "format the column as text" in notice.message


def test_a_hostile_row_with_many_names_is_read_quickly_and_reports_at_most_twenty_faults() -> None:
    parsed = read({chr(n) + "itle": n for n in range(97, 250)})
    assert len(parsed.failed[0].errors or []) == 20
    parsed = read({chr(n) + "itle": n for n in range(97, 100_000)})
    assert len(parsed.failed[0].errors or []) < 20


@pytest.mark.parametrize("url", [" https://cdn.example/a.jpg", "https://cdn.example/a.jpg \n"])
def test_white_space_around_a_url_is_dropped(url: str) -> None:
    assert content(read(submitted_row(image_url=url)))["image_url"] == "https://cdn.example/a.jpg"


@pytest.mark.parametrize("sign", ["\ud800", "\0"])
def test_the_name_of_an_alias_is_cut_and_can_be_stored(sign: str) -> None:
    row = submitted_row() | {f"co{sign * 1000}lor": "#6E7874"}
    message = warning(read(row), "field_aliases").message
    assert "\0" not in message
    assert len(message.encode()) < 500


def test_a_slip_and_an_alias_are_found_behind_many_unknown_fields() -> None:
    others = {f"column {index}": "x" for index in range(150)}
    row = submitted_row() | others | {"color": "#6E7874"}
    assert content(read(row))["dominant_color"] == "#6E7874"
    row |= {"run_At": "2031-01-01T00:00:00Z"}
    assert faults(read(row)) == [("run_At", "unknown_field")]


def test_a_row_with_more_unknown_fields_than_are_examined_fails() -> None:
    row = submitted_row() | {f"column {index}": "x" for index in range(MAX_UNKNOWN_NAMES + 1)}
    parsed = read(row)
    assert faults(parsed) == [(None, "unknown_field")]
    assert parsed.failed[0].error_message == (
        "The row has 201 unknown fields; the limit is 200. Remove them."
    )


def test_rows_with_further_unknown_names_than_are_examined_fail() -> None:
    rows = [
        submitted_row(idempotency_key=f"k{number}")
        | {f"column {number}-{index}": "x" for index in range(100)}
        for number in range(6)
    ]
    parsed = read(*rows)
    assert [row.row_number for row in parsed.valid] == [1, 2, 3, 4, 5]
    assert [result.error_code for result in parsed.failed] == ["unknown_field"]


def test_a_time_that_is_no_time_behind_many_faults_fails_only_its_row() -> None:
    row = submitted_row(related_terms=["x" * 101] * 25, run_at="soon")
    parsed = read(row, submitted_row(), fails_past_run_at=True)
    assert [row.row_number for row in parsed.valid] == [2]
    assert [result.row_number for result in parsed.failed] == [1]


def test_the_value_of_a_fault_is_shown_as_json() -> None:
    row = submitted_row(title=True, description={"a": None, "b": ["'", 1.5]})
    values = [fault.value for fault in read(row).failed[0].errors or []]
    assert values == ["true", '{"a": null, "b": ["\'", 1.5]}']
