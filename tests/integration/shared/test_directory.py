"""Accounts and boards are found by their ids and by their names."""

import pytest

from deploy.administration import OperatorRepository
from shared.access.model import Account, Board
from shared.access.repository import AccessRepository
from shared.postgres.database import Database
from tests.support.connections import record_connection


@pytest.mark.parametrize("name", ["Lamp shop", "LAMP SHOP", "Äpfel\0", "\ud800", "nobody"])
async def test_accounts_and_their_boards_are_found_by_any_case_of_their_names(
    database: Database, name: str
) -> None:
    operator, access = OperatorRepository(database), AccessRepository(database)
    workspace_id = await operator.create_workspace("Test")
    account_id = await operator.add_account(workspace_id, name="Lamp shop")
    await operator.add_board(workspace_id, account_id, "549755813888000001", name="Autumn")
    await operator.add_board(workspace_id, account_id, "549755813888000002", name="Winter")
    accounts, boards = await access.find_by_names(workspace_id, [name], ["autumn", "\0", "\ud800"])
    if name.lower() == "lamp shop":
        assert [account.id for account in accounts] == [account_id]
        assert boards == [Board(account_id, "549755813888000001", "Autumn")]
    else:
        assert (accounts, boards) == ([], [])


async def test_accounts_and_boards_are_found_by_their_ids(database: Database) -> None:
    operator, access = OperatorRepository(database), AccessRepository(database)
    workspace_id = await operator.create_workspace("Test")
    other = await operator.create_workspace("Other")
    account_id = await operator.add_account(workspace_id, name="Lamp shop")
    await operator.add_board(workspace_id, account_id, "549755813888000001", name="Autumn")
    accounts, boards = await access.find_by_names(
        workspace_id, [account_id.hex, "no id"], ["549755813888000001"]
    )
    (account,) = accounts
    assert isinstance(account, Account)
    assert account.display_name == "Lamp shop"
    assert [board.board_id for board in boards] == ["549755813888000001"]
    assert await access.find_by_names(other, [str(account_id)], ["Autumn"]) == ([], [])


async def test_accounts_that_were_ever_connected_are_found_in_their_workspace(
    database: Database,
) -> None:
    operator, access = OperatorRepository(database), AccessRepository(database)
    workspace_id = await operator.create_workspace("Test")
    other = await operator.create_workspace("Other")
    connected = await operator.add_account(workspace_id, name="Lamp shop")
    unconnected = await operator.add_account(workspace_id, name="Chair shop")
    await record_connection(database, workspace_id, connected)
    both = [connected, unconnected]
    assert await access.find_connected(workspace_id, both) == {connected}
    assert await access.find_connected(other, both) == set()
