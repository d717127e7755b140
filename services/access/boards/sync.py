"""Makes the boards in the store equal to those at Pinterest."""

import asyncio
import random
from datetime import timedelta
from typing import get_args
from uuid import UUID

import structlog

from services.access.boards.connected_repository import ConnectedBoardRepository
from services.access.boards.rules import BoardSelection, PinterestBoard, select_boards
from services.access.config import AccessSettings
from services.access.connections.budgets import BudgetUsedUp
from services.access.connections.errors import Failure, build_api_error
from services.access.connections.service import ConnectionService
from services.access.connections.vault import TokenKeyMissing
from shared.contract.errors import ApiError
from shared.pinterest.failures import AnswerLost, NotSent, Refused
from shared.runtime.periodic import PeriodicTask

log = structlog.get_logger()

MAX_READS = 3
"""Maximum reads of the list in one sync. It is read again if the boards changed meanwhile."""
CONCURRENT_SYNCS = 8
CHECK_INTERVAL_SECONDS = 10.0
LEASE = timedelta(minutes=10)
"""The time before another replica syncs an account whose sync has not ended."""
JITTER = 0.1
"""Spreads the syncs of accounts that were connected at the same time."""
MAX_LOGGED_IDS = 10


class BoardSync:
    """Reads the boards of connected accounts from Pinterest."""

    def __init__(
        self,
        repository: ConnectedBoardRepository,
        connections: ConnectionService,
        settings: AccessSettings,
    ) -> None:
        self._repository = repository
        self._connections = connections
        self._mode = settings.pinterest_mode
        self._limit = settings.max_boards_per_account
        self._interval = timedelta(minutes=settings.pinterest_boards_minutes)

    def periodic_task(self) -> PeriodicTask:
        return PeriodicTask("boards", self.sync_due, interval_seconds=CHECK_INTERVAL_SECONDS)

    async def sync_due(self) -> int:
        """Syncs accounts that are due. Returns their number. Raises DatabaseUnavailable."""
        account_ids = await self._repository.take_due(
            self._mode, limit=CONCURRENT_SYNCS, lease=LEASE
        )
        await asyncio.gather(*(self.sync(account_id) for account_id in account_ids))
        return len(account_ids)

    async def sync(self, account_id: UUID) -> bool:
        """Reads all boards of an account from Pinterest, and stores them in one transaction.

        Returns False if Pinterest failed: the boards stay, and the connection's `boards_message`
        says why. Called after a connection, on a refresh, and regularly. Raises
        DatabaseUnavailable.
        """
        try:
            await self.read(account_id)
        except get_args(Failure):
            return False
        return True

    async def read(self, account_id: UUID) -> list[PinterestBoard]:
        """Syncs an account and returns its boards. Raises a Failure, after it was recorded."""
        for _ in range(MAX_READS):
            version = await self._repository.read_version(account_id)
            try:
                items = await self._connections.list_all(account_id, "boards/list", "/boards")
            except get_args(Failure) as failure:
                await self._record(account_id, version, failure)
                raise
            selection = select_boards(items, limit=self._limit)
            if await self._store(account_id, version, selection):
                return selection.boards
        # Others store boards all the time, so those in the store are no older than this list
        log.info("boards_overtaken", account_id=str(account_id))
        return selection.boards

    async def _store(self, account_id: UUID, version: int, selection: BoardSelection) -> bool:
        if selection.invalid:
            log.warning(
                "boards_left_out",
                account_id=str(account_id),
                count=len(selection.invalid),
                board_ids=selection.invalid[:MAX_LOGGED_IDS],
            )
        return await self._repository.store_list(
            account_id,
            selection.boards,
            seen_version=version,
            message=_describe_limit(selection, self._limit),
            next_after=self._interval * random.uniform(1 - JITTER, 1 + JITTER),  # noqa: S311
        )

    async def _record(self, account_id: UUID, version: int, failure: Failure) -> None:
        error = build_api_error(failure)
        log.warning("boards_not_synced", account_id=str(account_id), code=error.code)
        await self._repository.record_failure(
            account_id,
            seen_version=version,
            message=_describe(failure, error),
            retry_after_seconds=(
                failure.retry_after_seconds if isinstance(failure, Refused) else None
            ),
        )


def _describe(failure: Failure, error: ApiError) -> str | None:
    """Returns what an account's health says about a list that could not be read.

    None: the fault says nothing about the account. A missing key is the operator's, and a list that
    has to wait for the budget of requests comes later.
    """
    if isinstance(failure, TokenKeyMissing | BudgetUsedUp):
        return None
    if isinstance(failure, NotSent | AnswerLost):
        return "The boards could not be read, because Pinterest did not answer. It is tried again."
    return error.message


def _describe_limit(selection: BoardSelection, limit: int) -> str | None:
    if not selection.beyond_limit:
        return None
    return (
        f"The account has {selection.beyond_limit} boards more than the {limit} that Pinflow takes "
        "(PINFLOW_MAX_BOARDS_PER_ACCOUNT). The newest ones can't be used."
    )
