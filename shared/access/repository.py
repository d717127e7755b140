"""Reads the schema `access`, for every service.

Only services/access and operators' commands (deploy/administration) write it.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text

from shared.access.model import (
    Account,
    Board,
    BoardCheck,
    BoardName,
    BoardResult,
    Destination,
    DestinationCheck,
    Principal,
    SimilarBoard,
)
from shared.access.statements import matches_account
from shared.access.tables import accounts, api_keys, connections, workspaces
from shared.contract.field_names import suggest_field
from shared.contract.pins import make_printable
from shared.contract.pinterest_ids import is_pinterest_id
from shared.postgres.database import Database

# Names are only compared for the first wrong boards: a batch may have 500 of them
_CHECK = text("""
    with checked as (
        select d.*, a.id as known_account, b.board_id is not null as has_board,
            b.board_id is null
                and count(*) filter (where b.board_id is null) over (order by d.ordinal) <= 10
                as is_explained
        from unnest(
            cast(:workspaces as uuid[]), cast(:accounts as uuid[]), cast(:boards as text[])
        ) with ordinality as d(workspace_id, account_id, board_id, ordinal)
        left join access.accounts a
            on a.workspace_id = d.workspace_id and a.id = d.account_id and a.revoked_at is null
        left join access.boards b on b.account_id = a.id and b.board_id = d.board_id
    )
    select d.known_account is not null as has_account, d.has_board,
        exists (
            select from access.connections c
            where c.account_id = d.account_id and c.workspace_id = d.workspace_id
        ) as is_connected,
        case when d.is_explained then array(
            select n.board_id from access.boards n
            where n.account_id = d.known_account and lower(n.name) = lower(d.board_id)
            order by n.board_id
        ) end as named,
        case when d.is_explained and d.board_id !~ '^[0-9]+$' then array(
            select array[n.name, n.board_id] from access.boards n
            where n.account_id = d.known_account and abs(length(n.name) - length(d.board_id)) <= 2
            order by n.name limit 100
        ) end as candidates
    from checked d
    order by d.ordinal
""")
# Postgres alone compares in lower case, because Python's lower case may differ
_FIND_ACCOUNTS = text("""
    select id, display_name, username from access.accounts
    where workspace_id = :workspace_id and revoked_at is null and (
        id = any(cast(:ids as uuid[])) or exists (
            select from unnest(cast(:names as text[])) as n(name)
            where lower(n.name) in (
                lower(display_name), lower(username), '@' || lower(username)
            )
        )
    )
""")
_FIND_BOARDS = text("""
    select account_id, board_id, name from access.boards
    where account_id = any(cast(:accounts as uuid[])) and (
        board_id = any(cast(:names as text[])) or lower(name) in (
            select lower(n.name) from unnest(cast(:names as text[])) as n(name)
        )
    )
""")


_NO_DIGITS = re.compile(r"\D+").sub


class AccessRepository:
    """Reads workspaces, keys and boards. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_principal(self, key_hash: bytes) -> Principal | None:
        """Finds the principal of a key. Returns None if the key is unknown or revoked."""
        query = select(
            api_keys.c.workspace_id, api_keys.c.id, api_keys.c.scopes, api_keys.c.account_ids
        )
        row = await self._database.fetch_first(
            query.where(api_keys.c.key_hash == key_hash, api_keys.c.revoked_at.is_(None))
        )
        return None if row is None else Principal.from_key(row)

    async def workspace_exists(self, workspace_id: UUID) -> bool:
        query = select(workspaces.c.id).where(workspaces.c.id == workspace_id)
        return await self._database.fetch_first(query) is not None

    async def account_exists(self, workspace_id: UUID, account_id: UUID) -> bool:
        """Returns whether the workspace has the account. A revoked account counts."""
        query = select(accounts.c.id).where(matches_account(workspace_id, account_id))
        return await self._database.fetch_first(query) is not None

    async def was_connected(self, workspace_id: UUID, account_id: UUID) -> bool:
        """Returns whether the account was ever connected to Pinterest."""
        query = select(connections.c.account_id).where(
            connections.c.workspace_id == workspace_id, connections.c.account_id == account_id
        )
        return await self._database.fetch_first(query) is not None

    async def find_by_names(
        self, workspace_id: UUID, accounts: Collection[str], boards: Collection[str]
    ) -> tuple[list[Account], list[Board]]:
        """Finds the accounts with these ids or names, and their boards with these ids or names.

        Revoked accounts are left out. Names match in any case.
        """
        values = {
            "workspace_id": workspace_id,
            "ids": list(filter(None, map(_parse_uuid, accounts))),
            "names": _without_unstorable(accounts),
        }
        async with self._database.transaction() as connection:
            found = [Account(*row) for row in await connection.execute(_FIND_ACCOUNTS, values)]
            ids = [account.id for account in found]
            values = {"accounts": ids, "names": _without_unstorable(boards)}
            return found, [Board(*row) for row in await connection.execute(_FIND_BOARDS, values)]

    async def find_connected(self, workspace_id: UUID, account_ids: Collection[UUID]) -> set[UUID]:
        """Returns the accounts of the workspace that were ever connected to Pinterest."""
        query = select(connections.c.account_id).where(
            connections.c.workspace_id == workspace_id, connections.c.account_id.in_(account_ids)
        )
        return {row["account_id"] for row in await self._database.fetch_all(query)}

    async def check_boards(
        self, destinations: Collection[Destination]
    ) -> dict[Destination, BoardResult]:
        """Checks all destinations in one statement, without their connections."""
        checks = await self.check_destinations(destinations)
        return {destination: check.board for destination, check in checks.items()}

    async def check_destinations(
        self, destinations: Collection[Destination]
    ) -> dict[Destination, DestinationCheck]:
        """Checks all destinations in one statement."""
        # Text in Postgres can't contain NUL, so no board has such an id. With it the query would
        # fail, and no other destination could be checked
        queried = {item: item.board_id.replace("\0", "") for item in destinations}
        values = {
            "workspaces": [item.workspace_id for item in queried],
            "accounts": [item.account_id for item in queried],
            "boards": list(queried.values()),
        }
        async with self._database.transaction() as connection:
            rows = (await connection.execute(_CHECK, values)).all()
        return {
            item: DestinationCheck(_check_board(item, row), row.is_connected)
            for item, row in zip(queried, rows, strict=True)
        }


def _parse_uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None


def _without_unstorable(values: Collection[str]) -> list[str]:
    """Leaves out names that Postgres can't take. Nothing has such a name."""
    return [value for value in values if make_printable(value, len(value)) == value]


def _check_board(destination: Destination, row: Row[Any]) -> BoardResult:
    """Returns the result of a row of _CHECK."""
    if "\0" in destination.board_id:
        return BoardCheck.NO_BOARD
    if not row.has_account:
        return BoardCheck.NO_ACCOUNT

    def can_be_used(board_id: str) -> bool:
        # A board may be older than the connection: Pinterest does not have it then
        return not row.is_connected or is_pinterest_id(board_id)

    if row.has_board and can_be_used(destination.board_id):
        return BoardCheck.KNOWN
    if named := tuple(filter(can_be_used, row.named or ())):
        return BoardName(named)
    candidates = {
        name: board_id for name, board_id in row.candidates or () if can_be_used(board_id)
    }
    return _find_similar(destination.board_id, candidates) or BoardCheck.NO_BOARD


def _find_similar(name: str, boards: Mapping[str, str]) -> SimilarBoard | None:
    """Finds the board that a misspelled name means. Numbers must be equal: Board 4 is no Board 3.

    `boards` has the id of each board by its name.
    """
    digits = _NO_DIGITS("", name)
    likely = [known for known in boards if _NO_DIGITS("", known) == digits]
    suggestion = suggest_field(name, likely)
    return None if suggestion is None else SimilarBoard(suggestion, boards[suggestion])
