"""Creates, changes, deletes and checks boards of connected accounts: at Pinterest first."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Any, assert_never, get_args
from uuid import UUID, uuid4

from services.access.boards.access_check import AccessFinding, check_pinterest
from services.access.boards.connected_repository import ConnectedBoardRepository
from services.access.boards.errors import board_not_found
from services.access.boards.request_repository import (
    BoardClaim,
    BoardRequestRepository,
    Busy,
    Created,
)
from services.access.boards.rules import (
    PinterestBoard,
    find_created,
    find_missing_scopes,
    find_missing_secret_scopes,
    is_pinterest_board_id,
    parse_board,
)
from services.access.boards.sync import BoardSync
from services.access.config import AccessSettings
from services.access.connections.errors import (
    UNAVAILABLE_SECONDS,
    Failure,
    answer_failures,
    build_api_error,
)
from services.access.connections.service import ConnectionService
from shared.contract.errors import ApiError, DatabaseUnavailable, ErrorCode
from shared.pinterest.failures import AnswerLost, Cause, Refused
from shared.postgres.row import Row

LEASE_TIMEOUTS = 6
LEASE_MARGIN_SECONDS = 60
"""A claim lasts for that many timeouts of a request, and this. A creation takes at most six of them
and 40 s: the call, and the call again, each after a wait for a new token that takes at most two
leases of a refresh (services/access/connections/refresher.py). The rest is for the database."""
MIN_SYNC_SECONDS = 30
"""Checks of boards that the store does not have read the list at most this often."""
CREATE, UPDATE, DELETE, GET = "boards/create", "boards/update", "boards/delete", "boards/get"


class ConnectedBoards:
    """The changes of boards of connected accounts. Raises ApiError, and DatabaseUnavailable.

    `connection` is the account's row in access.connections. The caller has checked that the
    workspace and the key may use the account.
    """

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
        self._scopes = settings.asked_scopes
        self._lease = timedelta(
            seconds=LEASE_TIMEOUTS * settings.pinterest_timeout_seconds + LEASE_MARGIN_SECONDS
        )

    async def create(
        self, connection: Row, values: Mapping[str, Any], idempotency_key: str | None
    ) -> tuple[Row, bool]:
        """Creates a board. Returns it, and whether this request created it.

        Raises AccountRevoked and TooManyBoards, besides ApiError.
        """
        account_id = connection["account_id"]
        # A request without a key gets a unique one, so that all requests take the same path
        key = idempotency_key or str(uuid4())
        match await self._requests.claim(
            account_id, key, values["name"], limit=self._limit, lease=self._lease
        ):
            case Created(board):
                return board, False
            case Busy(seconds):
                raise _in_progress(seconds)
            case BoardClaim() as claim:
                with self._answering(connection, privacy=values.get("privacy")):
                    try:
                        return await self._perform(
                            claim, values, is_keyed=idempotency_key is not None
                        )
                    except DatabaseUnavailable:  # otherwise the key is blocked until the lease ends
                        with suppress(DatabaseUnavailable):
                            await self._requests.release(claim)
                        raise
            case _ as unknown:
                assert_never(unknown)

    async def _perform(
        self, claim: BoardClaim, values: Mapping[str, Any], *, is_keyed: bool
    ) -> tuple[Row, bool]:
        """Finds the board of an earlier attempt, or creates it. Raises a Failure or ApiError."""
        earlier = await self._find_earlier(claim) if claim.is_repeated else None
        board = earlier or await self._create(claim, values, is_keyed=is_keyed)
        lost = _unconfirmed(_LOST_KEYED if is_keyed else _LOST_UNKEYED)
        try:
            row = await self._requests.complete(claim, board)
        except DatabaseUnavailable as error:  # "try again" would create a second board
            with suppress(DatabaseUnavailable):
                await self._requests.release(claim)
                await self._repository.make_due(claim.account_id)
            raise lost from error
        if row is None:
            await self._requests.release(claim)
            raise lost
        return row, earlier is None

    async def _find_earlier(self, claim: BoardClaim) -> PinterestBoard | None:
        """Looks for the board of an earlier attempt, whose answer was lost.

        Extends the claim if there is no such board: the caller creates it then.
        """
        try:
            listed = await self._sync.read(claim.account_id)
        except get_args(Failure):
            await self._requests.release(claim)
            raise
        others = await self._requests.list_other_boards(claim)
        found = find_created(listed, name=claim.name, started_at=claim.started_at, other_ids=others)
        if found is None and not await self._requests.renew(claim, lease=self._lease):
            raise _in_progress(UNAVAILABLE_SECONDS)
        return found

    async def _create(
        self, claim: BoardClaim, values: Mapping[str, Any], *, is_keyed: bool
    ) -> PinterestBoard:
        document = {name: value for name, value in values.items() if value is not None}
        document["name"] = claim.name
        try:
            return await self._call(claim.account_id, CREATE, "POST", "/boards", document)
        except get_args(Failure) as failure:
            if _is_lost(failure, CREATE):
                await self._requests.release(claim)
                await self._repository.make_due(claim.account_id)
                raise _unconfirmed(_LOST_KEYED if is_keyed else _LOST_UNKEYED) from failure
            # An earlier attempt may still have created it
            end = self._requests.release if claim.is_repeated else self._requests.forget
            await end(claim)
            raise

    async def update(self, connection: Row, board_id: str, changes: Mapping[str, Any]) -> Row:
        """Changes a board at Pinterest, then in the store. Returns it."""
        if not is_pinterest_board_id(board_id):
            raise board_not_found()
        if changes.get("privacy") == "PROTECTED":
            raise ApiError(ErrorCode.VALIDATION_ERROR, _NOT_PROTECTED)
        # Null removes the description here. Pinterest may take it for "no change"
        document = {name: "" if value is None else value for name, value in changes.items()}
        account_id, version = connection["account_id"], connection["boards_version"]
        with self._answering(connection, board_id, privacy=changes.get("privacy")):
            try:
                board = await self._call(
                    account_id, UPDATE, "PATCH", f"/boards/{board_id}", document
                )
            except get_args(Failure) as failure:
                if _is_unknown_board(failure):
                    await self._repository.remove_board(account_id, board_id, seen_version=version)
                    raise board_not_found() from failure
                await self._raise_if_lost(account_id, failure, UPDATE)
                raise
        return await self._repository.put_board(account_id, board, seen_version=version)

    async def delete(self, connection: Row, board_id: str) -> None:
        """Deletes a board at Pinterest, then in the store.

        Raises 404 only if neither had it: an earlier request whose answer was lost may have deleted
        it at Pinterest.
        """
        account_id, version = connection["account_id"], connection["boards_version"]
        is_gone = not is_pinterest_board_id(board_id)
        if not is_gone:
            with self._answering(connection, board_id):
                try:
                    await self._connections.call(
                        account_id, DELETE, "DELETE", f"/boards/{board_id}"
                    )
                except get_args(Failure) as failure:
                    is_gone = _is_unknown_board(failure)
                    await self._raise_if_lost(account_id, failure, DELETE)
                    if not is_gone:
                        raise
        was_stored = await self._repository.remove_board(account_id, board_id, seen_version=version)
        if is_gone and not was_stored:
            raise board_not_found()

    async def check(self, connection: Row, board_id: str, stored: Row | None) -> AccessFinding:
        """Asks Pinterest whether pins can be published to a board. Updates it in the store."""
        account_id, version = connection["account_id"], connection["boards_version"]
        try:
            board = await self._call(account_id, GET, "GET", f"/boards/{board_id}")
        except get_args(Failure) as failure:
            if stored is not None and _is_unknown_board(failure):
                await self._repository.make_due(account_id)
            error = build_api_error(
                failure,
                board_id=board_id,
                missing_scopes=find_missing_scopes(connection["scopes"]),
            )
            return AccessFinding.from_error(error, account_id)
        if stored is None:
            is_listed = await self._is_listed(connection, board_id)
        else:
            is_listed = True
            if any(stored[name] != value for name, value in board.values().items()):
                await self._repository.put_board(account_id, board, seen_version=version)
        return check_pinterest(connection["scopes"], board_id, is_listed=is_listed)

    async def _is_listed(self, connection: Row, board_id: str) -> bool:
        """Returns whether a board that is not in the store is among the account's boards.

        Pinterest may show a board that is not: pins can't be published to it.
        """
        if not await self._repository.is_list_older(
            connection["account_id"], timedelta(seconds=MIN_SYNC_SECONDS)
        ):
            return False
        try:
            listed = await self._sync.read(connection["account_id"])
        except get_args(Failure):
            return False
        return any(board.board_id == board_id for board in listed)

    async def _call(
        self, account_id: UUID, operation: str, method: str, path: str, document: Any = None
    ) -> PinterestBoard:
        """Calls an operation that answers with a board. Raises a Failure."""
        answer = await self._connections.call(
            account_id, operation, method, path, document=document
        )
        board = parse_board(answer)
        if board is None:
            raise AnswerLost(operation, "The answer has no board.")
        return board

    @contextmanager
    def _answering(
        self, connection: Row, board_id: str | None = None, *, privacy: str | None = None
    ) -> Iterator[None]:
        """Raises ApiError for a Failure. `privacy` is what the request asks for."""
        missing = find_missing_scopes(connection["scopes"])
        if privacy == "SECRET":
            missing += find_missing_secret_scopes(connection["scopes"])
        with answer_failures(board_id=board_id, missing_scopes=missing, asked_scopes=self._scopes):
            yield

    async def _raise_if_lost(self, account_id: UUID, failure: Failure, operation: str) -> None:
        """Raises 503 if the change may have been made. Repeating it is safe."""
        if _is_lost(failure, operation):
            await self._repository.make_due(account_id)
            message = _LOST_DELETION if operation == DELETE else _LOST_CHANGE
            raise _unconfirmed(message) from failure


def _is_lost(failure: Failure, operation: str) -> bool:
    """Returns whether the change itself may have been made: not if a token's refresh failed."""
    return isinstance(failure, AnswerLost) and failure.operation == operation


def _is_unknown_board(failure: Failure) -> bool:
    return isinstance(failure, Refused) and failure.cause is Cause.NOT_FOUND


_LOST_KEYED = (
    "The answer of Pinterest was lost, so the board may exist or not. Send the request again with "
    "the same Idempotency-Key."
)
_LOST_UNKEYED = (
    "The answer of Pinterest was lost, so the board may exist or not. Look at GET "
    "/v1/pinterest/boards in a minute, before you send the request again."
)
_LOST_CHANGE = (
    "The answer of Pinterest was lost, so the board may be changed or not. Send the request again."
)
_LOST_DELETION = (
    "The answer of Pinterest was lost, so the board may be deleted or not. Send the request again."
)
_NOT_PROTECTED = "privacy: Pinterest does not let a board become PROTECTED. Send PUBLIC or SECRET."


def _unconfirmed(message: str) -> ApiError:
    return ApiError(
        ErrorCode.PINTEREST_UNCONFIRMED,
        message,
        HTTPStatus.SERVICE_UNAVAILABLE,
        headers={"Retry-After": str(UNAVAILABLE_SECONDS)},
    )


def _in_progress(seconds: int) -> ApiError:
    message = (
        f"A request with this Idempotency-Key is still being processed. Try again in {seconds} s."
    )
    headers = {"Retry-After": str(seconds)}
    return ApiError(ErrorCode.REQUEST_IN_PROGRESS, message, HTTPStatus.CONFLICT, headers=headers)
