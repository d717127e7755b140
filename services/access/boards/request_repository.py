"""Holds the SQL of requests that create boards at Pinterest, which has no idempotency keys.

A request is written before the call leaves. So a request whose answer was lost can look for the
board that the earlier one made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.access.boards.connected_repository import (
    lock_connection,
    raise_version,
    upsert_board,
)
from services.access.boards.repository import AccountRevoked, TooManyBoards, first_row
from services.access.boards.rules import PinterestBoard
from services.access.boards.tables import board_requests
from shared.access.tables import accounts, boards
from shared.postgres.database import Database
from shared.postgres.row import Row


@dataclass(frozen=True, slots=True)
class BoardClaim:
    """The right of one request to create the board of an Idempotency-Key."""

    account_id: UUID
    key: str
    name: str
    """The name that the first attempt sent."""
    started_at: datetime
    """When the first attempt began."""
    attempt: int
    seen_version: int

    @property
    def is_repeated(self) -> bool:
        """Returns whether an earlier attempt may have created the board."""
        return self.attempt > 1


@dataclass(frozen=True, slots=True)
class Created:
    """The key's board exists."""

    board: Row


@dataclass(frozen=True, slots=True)
class Busy:
    """Another request with the key is calling Pinterest."""

    seconds: int


class BoardRequestRepository:
    """Reads and writes requests that create boards. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, account_id: UUID, key: str, name: str, *, limit: int, lease: timedelta
    ) -> BoardClaim | Created | Busy:
        """Begins an attempt to create the key's board, unless it exists or another one runs.

        Raises AccountRevoked, and TooManyBoards above `limit`. Calls that run count as boards.
        """
        async with self._database.transaction() as connection:
            # The lock makes requests with one key, and the count, wait for each other
            locked = await lock_connection(connection, account_id)
            await _require_unrevoked(connection, account_id)
            request = await _find_request(connection, account_id, key)
            if request and request["board_id"] is not None:
                existing = await _find_board(connection, account_id, request["board_id"])
                if existing is not None:
                    return Created(existing)
                # The board is gone, so the key creates another one
                await connection.execute(delete(board_requests).where(_matches(account_id, key)))
                request = None
            if request and request["seconds"] > 0:
                return Busy(request["seconds"])
            await _require_space(connection, account_id, limit)
            started = await _start(connection, account_id, key, name, lease)
            return BoardClaim(
                account_id,
                key,
                started["name"],
                started["started_at"],
                started["attempt"],
                locked["boards_version"],
            )

    async def list_other_boards(self, claim: BoardClaim) -> list[str]:
        """Lists boards that the claim's earlier attempts did not create.

        These are known for longer, or were created by other requests.
        """
        query = select(boards.c.board_id).where(
            boards.c.account_id == claim.account_id,
            or_(
                boards.c.created_at < claim.started_at,
                boards.c.board_id.in_(
                    select(board_requests.c.board_id).where(
                        board_requests.c.account_id == claim.account_id,
                        board_requests.c.board_id.is_not(None),
                    )
                ),
            ),
        )
        return [row["board_id"] for row in await self._database.fetch_all(query)]

    async def renew(self, claim: BoardClaim, *, lease: timedelta) -> bool:
        """Extends the claim before the call. Returns False if another request has taken it."""
        statement = (
            update(board_requests)
            .where(_matches_claim(claim))
            .values(busy_until=func.now() + lease)
            .returning(board_requests.c.attempt)
        )
        return await self._database.fetch_first(statement) is not None

    async def complete(self, claim: BoardClaim, board: PinterestBoard) -> Row | None:
        """Stores the board that the claim created or found, and returns its row.

        Returns None if it belongs to another request, which found it at the same time.
        """
        others = select(board_requests.c.board_id).where(
            board_requests.c.account_id == claim.account_id,
            board_requests.c.board_id == board.board_id,
            board_requests.c.idempotency_key != claim.key,
        )
        async with self._database.transaction() as connection:
            locked = await lock_connection(connection, claim.account_id)
            if first_row(await connection.execute(others)) is not None:
                return None
            row = await upsert_board(connection, locked, board)
            await connection.execute(
                update(board_requests)
                .where(_matches_claim(claim))
                .values(board_id=board.board_id, busy_until=None)
            )
            await raise_version(connection, locked, claim.seen_version)
        return row

    async def release(self, claim: BoardClaim) -> None:
        """Ends an attempt that may have created the board. The next one looks for it first."""
        statement = (
            update(board_requests)
            .where(_matches_claim(claim))
            .values(busy_until=None)
            .returning(board_requests.c.attempt)
        )
        await self._database.fetch_first(statement)

    async def forget(self, claim: BoardClaim) -> None:
        """Deletes a request that surely created no board."""
        statement = (
            delete(board_requests).where(_matches_claim(claim)).returning(board_requests.c.attempt)
        )
        await self._database.fetch_first(statement)


async def _require_unrevoked(connection: AsyncConnection, account_id: UUID) -> None:
    query = select(accounts.c.revoked_at).where(accounts.c.id == account_id)
    if (await connection.execute(query)).scalar_one() is not None:
        raise AccountRevoked(f"The account {account_id} is revoked.")


async def _require_space(connection: AsyncConnection, account_id: UUID, limit: int) -> None:
    stored = select(func.count()).where(boards.c.account_id == account_id).scalar_subquery()
    running = (
        select(func.count())
        .where(
            board_requests.c.account_id == account_id,
            board_requests.c.board_id.is_(None),
            board_requests.c.busy_until > func.now(),
        )
        .scalar_subquery()
    )
    if (await connection.execute(select(stored + running))).scalar_one() >= limit:
        raise TooManyBoards(f"The account has reached its limit of {limit} boards.")


async def _find_request(connection: AsyncConnection, account_id: UUID, key: str) -> Row | None:
    """Finds a request. `seconds` are those until its attempt ends, 0 if none runs."""
    remaining = func.extract("epoch", board_requests.c.busy_until - func.now())
    seconds = func.greatest(func.coalesce(func.ceil(remaining), 0), 0)
    query = select(board_requests, seconds.label("seconds")).where(_matches(account_id, key))
    return first_row(await connection.execute(query))


async def _find_board(connection: AsyncConnection, account_id: UUID, board_id: str) -> Row | None:
    query = select(boards).where(boards.c.account_id == account_id, boards.c.board_id == board_id)
    return first_row(await connection.execute(query))


async def _start(
    connection: AsyncConnection, account_id: UUID, key: str, name: str, lease: timedelta
) -> Row:
    values: Mapping[str, Any] = {"busy_until": func.now() + lease}
    statement = (
        insert(board_requests)
        .values(account_id=account_id, idempotency_key=key, name=name, **values)
        .on_conflict_do_update(
            index_elements=[board_requests.c.account_id, board_requests.c.idempotency_key],
            set_={**values, "attempt": board_requests.c.attempt + 1},
        )
        .returning(board_requests)
    )
    return dict((await connection.execute(statement)).mappings().one())


def _matches(account_id: UUID, key: str) -> ColumnElement[bool]:
    return and_(board_requests.c.account_id == account_id, board_requests.c.idempotency_key == key)


def _matches_claim(claim: BoardClaim) -> ColumnElement[bool]:
    return and_(
        _matches(claim.account_id, claim.key),
        board_requests.c.attempt == claim.attempt,
        board_requests.c.board_id.is_(None),
    )
