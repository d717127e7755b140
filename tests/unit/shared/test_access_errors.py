"""The messages of pins whose account or board does not exist."""

from uuid import uuid4

import pytest

from shared.access.errors import describe_board_failure
from shared.access.model import BoardCheck, BoardName, BoardResult, Destination

ACCOUNT = uuid4()


def describe(check: BoardResult, board_id: str = "nowhere") -> tuple[str, str]:
    return describe_board_failure(check, Destination(uuid4(), ACCOUNT, board_id))


def test_an_unknown_account_is_answered_with_the_list_of_accounts() -> None:
    code, message = describe(BoardCheck.NO_ACCOUNT)
    assert code == "account_not_found"
    assert message == (
        f"account_id: no account {ACCOUNT} in this workspace. See its accounts: "
        "GET /v1/pinterest/accounts, or pinflow template."
    )


def test_an_unknown_board_is_answered_with_the_list_of_boards() -> None:
    code, message = describe(BoardCheck.NO_BOARD)
    assert code == "board_not_found"
    assert message == (
        "board_id: no board nowhere on this account. See its boards: "
        f"GET /v1/pinterest/boards?account_id={ACCOUNT}, or pinflow template."
    )


@pytest.mark.parametrize("board_id", ["1.59E+17", "1,59E+17", "2E+17", "1.5901234e17", " 1.5E+17"])
def test_a_board_id_that_a_spreadsheet_changed_is_recognized(board_id: str) -> None:
    code, message = describe(BoardCheck.NO_BOARD, board_id)
    assert code == "board_not_found"
    assert message.startswith(f"board_id: {board_id} is no board id: a spreadsheet has changed")
    assert "column as text" in message
    assert "pinflow template" in message


@pytest.mark.parametrize("board_id", ["159012345678901234", "E+17", "1.59E+17x", "name 1E5", "1E"])
def test_other_board_ids_are_not_taken_for_changed_numbers(board_id: str) -> None:
    assert "spreadsheet" not in describe(BoardCheck.NO_BOARD, board_id)[1]


def test_a_name_that_several_boards_have_is_answered_with_their_ids() -> None:
    code, message = describe(BoardName(("501", "502")), "Lamps")
    assert code == "board_not_found"
    assert message == (
        "board_id: Lamps is the name of 2 boards. Send the id of one of them, 501, 502; names work "
        "only in imports."
    )
