"""Rules choose the boards that are stored, and the board that a lost answer was about."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.access.boards.rules import (
    PinterestBoard,
    find_created,
    find_missing_scopes,
    is_pinterest_board_id,
    parse_board,
    select_boards,
)

STARTED = datetime(2026, 12, 1, 12, 0, 30, tzinfo=UTC)


def item(board_id: str = "123", **fields: Any) -> dict[str, Any]:
    return {"id": board_id, "name": "Lamps", "description": None, "privacy": "PUBLIC", **fields}


def board(board_id: str = "123", created_at: datetime | None = STARTED) -> PinterestBoard:
    return PinterestBoard(board_id, "Lamps", None, "PUBLIC", created_at)


@pytest.mark.parametrize(
    "value", ["", "x", "12a", "1.5", "-1", " 1", "١٢", "²", "1" * 33, "../1", "1\0", None, 12]
)
def test_only_digits_are_an_id_of_a_board(value: object) -> None:
    assert not is_pinterest_board_id(value)
    assert is_pinterest_board_id("549755885175")


def test_a_board_is_read_from_an_answer() -> None:
    sent = item(description="Warm", privacy="SECRET", created_at="2021-06-08T09:37:30")
    assert parse_board(sent) == PinterestBoard(
        "123", "Lamps", "Warm", "SECRET", datetime(2021, 6, 8, 9, 37, 30, tzinfo=UTC)
    )


def test_a_board_has_what_can_be_stored_of_odd_fields() -> None:
    odd = item(name="a\0\ud800", description=5, privacy="FRIENDS", created_at="soon")
    assert parse_board(odd) == PinterestBoard("123", "a\ufffd?", None, "PUBLIC", None)
    parsed = parse_board({"id": "123"})
    assert parsed is not None
    assert parsed.name == "123"


@pytest.mark.parametrize("value", [None, [], "123", {}, {"id": 123}, {"id": "x"}])
def test_an_answer_without_an_id_is_no_board(value: object) -> None:
    assert parse_board(value) is None


def test_a_board_on_two_pages_counts_once_and_invalid_ones_are_left_out() -> None:
    selection = select_boards([item("2"), item("10"), item("2"), item("x\0"), 5], limit=9)
    assert [board.board_id for board in selection.boards] == ["2", "10"]
    assert selection.invalid == ["x\ufffd", "5"]
    assert selection.beyond_limit == 0


def test_the_oldest_boards_are_taken_up_to_the_limit_in_any_order() -> None:
    items = [item(str(number)) for number in (12, 9, 11, 10)]
    for listed in (items, items[::-1]):
        selection = select_boards(listed, limit=2)
        assert [board.board_id for board in selection.boards] == ["9", "10"]
        assert selection.beyond_limit == 2


@pytest.mark.parametrize(
    "created_at", [None, STARTED, STARTED - timedelta(seconds=59), STARTED + timedelta(days=1)]
)
def test_a_new_board_with_the_name_is_the_one_that_was_created(
    created_at: datetime | None,
) -> None:
    made = board(created_at=created_at)
    found = find_created([made], name="Lamps ", started_at=STARTED, other_ids=[])
    assert found == made


@pytest.mark.parametrize(
    ("made", "name", "other_ids"),
    [
        (board(), "Rugs", []),
        (board(), "lamps", []),
        (board(), "Lamps", ["123"]),
        (board(created_at=STARTED - timedelta(minutes=2)), "Lamps", []),
    ],
    ids=["another name", "another case", "known before", "created before"],
)
def test_another_board_is_not_taken_for_the_one_that_was_created(
    made: PinterestBoard, name: str, other_ids: list[str]
) -> None:
    assert find_created([made], name=name, started_at=STARTED, other_ids=other_ids) is None


def test_of_several_new_boards_the_first_is_taken() -> None:
    later = board("9", STARTED + timedelta(seconds=5))
    first = board("10", STARTED + timedelta(seconds=1))
    same = board("11", STARTED + timedelta(seconds=1))
    found = find_created([later, same, first], name="Lamps", started_at=STARTED, other_ids=[])
    assert found == first


def test_the_rights_that_publishing_needs_are_compared() -> None:
    granted = ["boards:read", "pins:read", "pins:write", "user_accounts:read"]
    assert find_missing_scopes(granted) == ["boards:write"]
    assert find_missing_scopes([*granted, "boards:write"]) == []
