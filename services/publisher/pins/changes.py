"""How a command gets at what stands: its board looked up, then decided and written under lock."""

from collections.abc import Collection
from uuid import UUID

from services.publisher.pins.commands import PinCommands, Verdict
from services.publisher.pins.transitions import Change, Decide, require_destination
from shared.access.model import BoardCheck, Destination
from shared.access.repository import AccessRepository
from shared.contract.errors import RequestRefused
from shared.postgres.row import Row


class Changes:
    """Boards are looked up before the lock is taken, and never remembered. In the same transaction
    each would hold one of few connections and wait for a second.
    """

    def __init__(self, commands: PinCommands, access: AccessRepository) -> None:
        self._commands = commands
        self._access = access

    async def one(self, workspace_id: UUID, pin_id: UUID, decide: Decide) -> Row:
        """The row as it is then. Raises RequestRefused."""
        verdict = (await self._commands.change(workspace_id, [pin_id], decide))[pin_id]
        if isinstance(verdict, RequestRefused):
            raise verdict
        return verdict.row

    async def each(
        self, workspace_id: UUID, pin_ids: Collection[UUID], decide: Decide
    ) -> dict[UUID, Verdict]:
        return await self._commands.change(workspace_id, pin_ids, decide)

    async def edit(self, workspace_id: UUID, pin_id: UUID, decide: Decide) -> Row:
        """One whose board may change. Raises RequestRefused."""
        row = (await self._commands.find(workspace_id, [pin_id])).get(pin_id)
        decided = decide(row)
        # Its account changes only as it is published, and then this is refused
        if row is not None and isinstance(decided, Change) and "board_id" in decided.values:
            destination = Destination(workspace_id, row["account_id"], decided.values["board_id"])
            require_destination(await self.check({destination}), destination)
        return await self.one(workspace_id, pin_id, decide)

    async def found(self, workspace_id: UUID, pin_ids: Collection[UUID]) -> Collection[Row]:
        """What stands under the ids before any lock."""
        return (await self._commands.find(workspace_id, pin_ids)).values()

    async def check(self, destinations: Collection[Destination]) -> dict[Destination, BoardCheck]:
        return await self._access.check_boards(destinations) if destinations else {}
