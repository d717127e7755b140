"""Holds the SQL of the boards of connected accounts.

Every change locks the connection's row and raises its `boards_version`. A list of Pinterest is
stored only if the version is still the one from before the list was read. So an older list never
undoes a newer one, or a change that was made meanwhile.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.access.boards.repository import first_row
from services.access.boards.rules import PinterestBoard
from services.access.connections.rules import plan_retry
from shared.access.connection_health import GIVEN_UP
from shared.access.tables import boards, connections
from shared.postgres.database import Database
from shared.postgres.row import Row

# Rows that are equal are not written: an hourly sync would otherwise rewrite every board
_UPSERT = text("""
    insert into access.boards
        (account_id, board_id, workspace_id, name, description, privacy, synced_at)
    select :account_id, b.id, :workspace_id, b.name, b.description, b.privacy, now()
    from unnest(
        cast(:ids as text[]), cast(:names as text[]), cast(:descriptions as text[]),
        cast(:privacies as text[])
    ) as b(id, name, description, privacy)
    on conflict (account_id, board_id) do update
    set name = excluded.name, description = excluded.description, privacy = excluded.privacy,
        synced_at = excluded.synced_at
    where (boards.name, boards.description, boards.privacy, boards.synced_at is null)
        is distinct from (excluded.name, excluded.description, excluded.privacy, false)
""")
_DELETE_OTHERS = text("""
    delete from access.boards
    where account_id = :account_id and board_id <> all(cast(:ids as text[]))
""")
# Requests whose board is gone, and calls whose outcome nobody has asked for in a week
_FORGET_REQUESTS = text("""
    delete from access.board_requests r
    where account_id = :account_id and case
        when board_id is null then started_at < now() - interval '7 days'
            and coalesce(busy_until, started_at) < now()
        else not exists (
            select from access.boards b
            where b.account_id = r.account_id and b.board_id = r.board_id
        )
    end
""")
# Replicas share the accounts that are due. The lease ends by itself if the process dies
_TAKE_DUE = text("""
    update access.connections set boards_due_at = now() + :lease
    where account_id in (
        select c.account_id
        from access.connections c join access.accounts a on a.id = c.account_id
        where c.boards_due_at <= now() and c.mode = :mode and c.disconnected_at is null
            and coalesce(c.health_code, '') <> all(cast(:given_up as text[]))
            and a.revoked_at is null
        order by c.boards_due_at
        limit :limit
        for update of c skip locked
    )
    returning account_id
""")


class ConnectedBoardRepository:
    """Reads and writes boards that Pinterest has. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_version(self, account_id: UUID) -> int:
        """Returns the version of the account's boards. 0: the account was never connected."""
        query = select(connections.c.boards_version).where(connections.c.account_id == account_id)
        row = await self._database.fetch_first(query)
        return 0 if row is None else row["boards_version"]

    async def is_list_older(self, account_id: UUID, age: timedelta) -> bool:
        """Returns whether the last list of Pinterest was stored before that time, or never."""
        query = select(connections.c.account_id).where(
            connections.c.account_id == account_id,
            func.coalesce(connections.c.boards_synced_at < func.now() - age, True),
        )
        return await self._database.fetch_first(query) is not None

    async def take_due(self, mode: str, *, limit: int, lease: timedelta) -> list[UUID]:
        """Claims accounts whose boards are due, until the lease ends or the sync is recorded."""
        given_up = [code.value for code in GIVEN_UP]
        values = {"mode": mode, "limit": limit, "lease": lease, "given_up": given_up}
        async with self._database.transaction() as connection:
            return list((await connection.execute(_TAKE_DUE, values)).scalars())

    async def store_list(
        self,
        account_id: UUID,
        listed: Sequence[PinterestBoard],
        *,
        seen_version: int,
        message: str | None,
        next_after: timedelta,
    ) -> bool:
        """Replaces the account's boards by a complete list of Pinterest.

        Returns False, and changes nothing, if the boards were changed since `seen_version`, or if
        the account was disconnected.
        """
        ids = [board.board_id for board in listed]
        async with self._database.transaction() as connection:
            locked = await lock_connection(connection, account_id)
            if locked["boards_version"] != seen_version or locked["disconnected_at"] is not None:
                return False
            await connection.execute(_DELETE_OTHERS, {"account_id": account_id, "ids": ids})
            await connection.execute(
                _UPSERT,
                {
                    "account_id": account_id,
                    "workspace_id": locked["workspace_id"],
                    "ids": ids,
                    "names": [board.name for board in listed],
                    "descriptions": [board.description for board in listed],
                    "privacies": [board.privacy for board in listed],
                },
            )
            await connection.execute(_FORGET_REQUESTS, {"account_id": account_id})
            await connection.execute(
                update(connections)
                .where(connections.c.account_id == account_id)
                .values(
                    boards_version=connections.c.boards_version + 1,
                    boards_synced_at=func.now(),
                    boards_due_at=func.now() + next_after,
                    boards_failures=0,
                    boards_message=message,
                )
            )
        return True

    async def record_failure(
        self,
        account_id: UUID,
        *,
        seen_version: int,
        message: str | None,
        retry_after_seconds: int | None,
    ) -> None:
        """Puts off the next sync. Changes nothing if another sync has succeeded meanwhile."""
        async with self._database.transaction() as connection:
            locked = await _find_and_lock(connection, account_id)
            if locked is None or locked["boards_version"] != seen_version:
                return
            failures = locked["boards_failures"]
            delay = timedelta(seconds=plan_retry(failures, retry_after_seconds))
            await connection.execute(
                update(connections)
                .where(connections.c.account_id == account_id)
                .values(
                    boards_failures=failures + 1,
                    boards_message=message,
                    boards_due_at=func.now() + delay,
                )
            )

    async def make_due(self, account_id: UUID) -> None:
        """Has the account's boards read soon, because they may differ from those in the store."""
        statement = (
            update(connections)
            .where(connections.c.account_id == account_id)
            .values(boards_due_at=func.least(connections.c.boards_due_at, func.now()))
            .returning(connections.c.account_id)
        )
        await self._database.fetch_first(statement)

    async def put_board(self, account_id: UUID, board: PinterestBoard, *, seen_version: int) -> Row:
        """Stores one board as Pinterest has it, and returns its row."""
        async with self._database.transaction() as connection:
            locked = await lock_connection(connection, account_id)
            row = await upsert_board(connection, locked, board)
            await raise_version(connection, locked, seen_version)
        return row

    async def remove_board(self, account_id: UUID, board_id: str, *, seen_version: int) -> bool:
        """Deletes a board that Pinterest does not have. Returns False if it was not stored."""
        statement = delete(boards).where(
            boards.c.account_id == account_id, boards.c.board_id == board_id
        )
        async with self._database.transaction() as connection:
            locked = await lock_connection(connection, account_id)
            deleted = (await connection.execute(statement)).rowcount
            await connection.execute(_FORGET_REQUESTS, {"account_id": account_id})
            await raise_version(connection, locked, seen_version)
        return bool(deleted)


async def lock_connection(connection: AsyncConnection, account_id: UUID) -> Row:
    """Locks the row of an account that was connected at some time, until the transaction ends.

    Such a row is never deleted.
    """
    if (row := await _find_and_lock(connection, account_id)) is None:
        raise LookupError(f"The account {account_id} was never connected")
    return row


async def _find_and_lock(connection: AsyncConnection, account_id: UUID) -> Row | None:
    query = select(connections).where(connections.c.account_id == account_id).with_for_update()
    return first_row(await connection.execute(query))


async def upsert_board(connection: AsyncConnection, locked: Row, board: PinterestBoard) -> Row:
    """Stores one board of the locked connection, and returns its row."""
    values = {**board.values(), "synced_at": func.now()}
    statement = (
        insert(boards)
        .values(
            account_id=locked["account_id"],
            workspace_id=locked["workspace_id"],
            board_id=board.board_id,
            **values,
        )
        .on_conflict_do_update(index_elements=[boards.c.account_id, boards.c.board_id], set_=values)
        .returning(boards)
    )
    return dict((await connection.execute(statement)).mappings().one())


async def raise_version(connection: AsyncConnection, locked: Row, seen_version: int) -> None:
    """Marks a change of the boards, which the call to Pinterest began at `seen_version`.

    Two calls may be stored in another order than Pinterest made them. So if the version has changed
    since, all boards are read again soon.
    """
    is_alone = locked["boards_version"] == seen_version
    due_at = connections.c.boards_due_at
    await connection.execute(
        update(connections)
        .where(connections.c.account_id == locked["account_id"])
        .values(
            boards_version=connections.c.boards_version + 1,
            boards_due_at=due_at if is_alone else func.least(due_at, func.now()),
        )
    )
