"""Creates, changes, deletes and checks boards of connected accounts: at Pinterest first."""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any, assert_never, get_args
from uuid import UUID, uuid4

from services.access.boards.connected_repository import ConnectedBoardRepository
from services.access.boards.request_repository import (
    BoardRequestRepository,
    Busy,
    Claim,
    Created,
)
from services.access.boards.rules import (
    PinterestBoard,
    find_created,
    is_pinterest_board_id,
    parse_board,
)
from services.access.boards.sync import BoardSync
from services.access.config import AccessSettings
from services.access.connections.errors import UNAVAILABLE_SECONDS, Failure, build_api_error
from services.access.connections.service import ConnectionService
from shared.contract.errors import ApiError, ErrorCode
from shared.pinterest.failures import AnswerLost, Cause, Refused
from shared.postgres.row import Row

CALLS_IN_CREATION = 4
"""Requests that one creation sends at most: the call, a refresh of the token, the call again. One
more is the margin."""


class BoardGone(Exception):  # noqa: N818
    """Pinterest does not have the board."""


class ConnectedBoards:
    """The changes of boards of connected accounts. Raises ApiError, and DatabaseUnavailable."""

    def __init__(
        self,
        repository: ConnectedBoardRepository,
        requests: BoardRequestRepository,
        connections: ConnectionService,
        sync: BoardSync,
        settings: AccessSettings,
    ) -> None:
        self._repository = repository
        self._requests = requests
        self._connections = connections
        self._sync = sync
        self._limit = settings.max_boards_per_account
        self._busy = timedelta(seconds=CALLS_IN_CREATION * settings.pinterest_timeout_seconds)

    async def create(
        self, account_id: UUID, values: Mapping[str, Any], idempotency_key: str | None
    ) -> tuple[Row, bool]:
        """Creates a board. Returns it, and whether this request created it.

        Raises AccountRevoked and TooManyBoards, besides ApiError.
        """
        # Requests without a key get one that nobody else has, so that all have one way
        key = idempotency_key or str(uuid4())
        match await self._requests.claim(
            account_id, key, values["name"], limit=self._limit, busy=self._busy
        ):
            case Created(board):
                return board, False
            case Busy(seconds):
                raise _in_progress(seconds)
            case Claim() as claim:
                found = await self._find_earlier(claim) if claim.is_repeated else None
                board = found or await self._call_create(claim, values, idempotency_key)
                return await self._requests.complete(claim, board), found is None
            case _ as unknown:
                assert_never(unknown)

    async def _find_earlier(self, claim: Claim) -> PinterestBoard | None:
        """Looks at Pinterest for the board of an attempt whose answer was lost."""
        try:
            listed = await self._sync.read(claim.account_id)
        except get_args(Failure) as failure:
            await self._requests.release(claim)
            raise build_api_error(failure) from failure
        others = await self._requests.list_other_boards(claim)
        if found := find_created(
            listed, name=claim.name, started_at=claim.started_at, other_ids=others
        ):
            return found
        if not await self._requests.renew(claim, busy=self._busy):
            raise _in_progress(UNAVAILABLE_SECONDS)
        return None

    async def _call_create(
        self, claim: Claim, values: Mapping[str, Any], idempotency_key: str | None
    ) -> PinterestBoard:
        sent = {name: value for name, value in values.items() if value is not None}
        try:
            return await self._call(
                claim.account_id, "boards/create", "POST", "/boards", sent | {"name": claim.name}
            )
        except get_args(Failure) as failure:
            if _is_lost(failure, "boards/create"):
                await self._requests.release(claim)
                await self._repository.make_due(claim.account_id)
                raise _unconfirmed_creation(is_keyed=idempotency_key is not None) from failure
            if claim.is_repeated:
                await self._requests.release(claim)
            else:
                await self._requests.forget(claim)
            raise build_api_error(failure) from failure
