"""Connects accounts: by OAuth with the consent of their user, or as the app owner's own account."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlencode
from uuid import UUID, uuid4

import structlog

from services.access.accounts.service import AccountService
from services.access.boards.sync import BoardSync
from services.access.config import AccessSettings
from services.access.connections.errors import answer_failures, build_api_error, quote
from services.access.connections.link import PinterestApi
from services.access.connections.model import GrantType, NewConnection, PinterestOff
from services.access.connections.service import ConnectionService
from services.access.oauth.grants import (
    CodeNotUsed,
    exchange_code,
    read_user,
    request_own_grant,
)
from services.access.oauth.repository import AttemptRepository
from services.access.oauth.rules import (
    START_AGAIN,
    answer_again,
    answer_lost,
    denied,
    failed,
    permits_attempt,
    require_permitted_target,
)
from services.access.oauth.state import InvalidState, StateSealer
from shared.access.model import Principal
from shared.contract.errors import ApiError, DatabaseUnavailable, ErrorCode, Overloaded, not_found
from shared.pinterest.model import TokenGrant
from shared.postgres.row import Row
from shared.runtime.backoff import backoff

T = TypeVar("T")

log = structlog.get_logger()

MAX_ATTEMPTS_IN_PROGRESS = 200
"""Attempts of one workspace that have not expired and did not connect an account."""
STORE_SECONDS = 10.0
"""Maximum time for which new tokens are kept while Postgres is down. Their code is spent."""
SYNC_SECONDS = 8.0
"""Maximum time for which an answer waits until the boards are read. Later they come anyway."""


@dataclass(frozen=True, slots=True)
class StartedAttempt:
    id: UUID
    authorization_url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Callback:
    """The parameters with which Pinterest sends a user back: a code or an error."""

    state: str
    code: str | None = None
    error: str | None = None
    error_description: str | None = None


@dataclass(frozen=True, slots=True)
class _App:
    """The parts of the service that exist only if the mode is not off."""

    api: PinterestApi
    states: StateSealer


class OAuthService:
    """The use cases of connecting. Raises ApiError and DatabaseUnavailable."""

    def __init__(
        self,
        settings: AccessSettings,
        *,
        attempts: AttemptRepository,
        accounts: AccountService,
        connections: ConnectionService,
        boards: BoardSync,
        api: PinterestApi | None,
    ) -> None:
        """Takes Pinterest's API, or None if the mode is off."""
        self._settings = settings
        self._attempts = attempts
        self._accounts = accounts
        self._connections = connections
        self._boards = boards
        self._optional_app = None if api is None else _App(api, StateSealer(settings.token_keys))
        self._syncs: set[asyncio.Task[None]] = set()

    async def start(self, principal: Principal, account_id: UUID | None) -> StartedAttempt:
        """Starts an attempt to connect an account, or a new one without `account_id`."""
        states = self._app.states
        require_permitted_target(principal, account_id)
        if account_id is not None:
            await self._accounts.find(principal, account_id)
        attempt = await self._attempts.create(
            uuid4(),
            principal.workspace_id,
            account_id,
            lifetime=timedelta(seconds=self._settings.pinterest_consent_seconds),
            limit=MAX_ATTEMPTS_IN_PROGRESS,
        )
        if attempt is None:
            raise Overloaded(
                ErrorCode.OVERLOADED,
                f"{MAX_ATTEMPTS_IN_PROGRESS} attempts to connect an account are in progress in "
                "this workspace. No more are allowed. Use one of them, or wait until they expire.",
                retry_after=self._settings.pinterest_consent_seconds,
                limit=MAX_ATTEMPTS_IN_PROGRESS,
            )
        query = {
            "client_id": self._settings.pinterest_app_id,
            "redirect_uri": self._settings.redirect_url,
            "response_type": "code",
            "scope": ",".join(self._settings.asked_scopes),
            "state": states.seal(attempt["id"]),
        }
        return StartedAttempt(
            attempt["id"],
            f"{self._settings.consent_url}?{urlencode(query)}",
            attempt["expires_at"],
        )

    async def finish(self, callback: Callback) -> UUID:
        """Connects the account of a callback. Returns its id.

        Only the first callback of an attempt does something. Further ones get the same answer.
        """
        states = self._app.states
        try:
            attempt_id = states.open(callback.state)
        except InvalidState:
            raise _state_invalid() from None
        if callback.code is None and callback.error is None:
            raise ApiError(ErrorCode.INVALID_PARAMETER, "code: is missing.")
        attempt = await self._attempts.take(attempt_id)
        if attempt is None:
            attempt = await self._attempts.find(attempt_id)
            if attempt is None:  # deleted a day after it had expired
                raise _state_invalid()
            return answer_again(attempt)
        try:
            account_id = await self._finish_first(attempt, callback)
        except CodeNotUsed as not_used:
            await self._attempts.release(attempt_id)
            raise not_used.error from not_used
        except ApiError as error:
            log.warning("oauth_failed", attempt_id=str(attempt_id), code=error.code)
            await self._attempts.store_failure(attempt_id, error.code, error.message)
            raise
        await _store(lambda: self._attempts.store_account(attempt_id, account_id))
        await self._read_boards(account_id)
        return account_id

    async def find_attempt(self, principal: Principal, attempt_id: UUID) -> Row:
        attempt = await self._attempts.find(attempt_id)
        if (
            attempt is None
            or attempt["workspace_id"] != principal.workspace_id
            or not permits_attempt(principal, attempt)
        ):
            raise not_found("Attempt")
        return attempt

    async def connect_app_owner(self, workspace_id: UUID, account_id: UUID | None) -> UUID:
        """Connects the account of the app's owner, without a redirect. For an operator."""
        app = self._app
        await self._accounts.require(workspace_id, account_id)
        with answer_failures():
            grant = await request_own_grant(app.api, self._settings.asked_scopes)
        connected = await self._connect(workspace_id, account_id, grant, "client_credentials")
        await self._read_boards(connected)
        return connected

    async def close(self) -> None:
        """Cancels reads of boards that are in progress. The periodic task reads them."""
        for task in [*self._syncs]:
            task.cancel()
        await asyncio.gather(*self._syncs, return_exceptions=True)

    @property
    def _app(self) -> _App:
        if self._optional_app is None:
            raise build_api_error(PinterestOff())
        return self._optional_app

    async def _finish_first(self, attempt: Row, callback: Callback) -> UUID:
        if callback.error is not None or callback.code is None:
            raise denied(_describe_denial(callback))
        grant = await exchange_code(self._app.api, callback.code, self._settings.redirect_url)
        try:
            return await self._connect(
                attempt["workspace_id"], attempt["account_id"], grant, "authorization_code"
            )
        except ApiError as error:  # the code is spent
            if error.code is ErrorCode.PINTEREST_UNAVAILABLE:
                raise answer_lost() from error
            raise failed(error.code, f"{error.message} {START_AGAIN}", error.details) from error

    async def _connect(
        self, workspace_id: UUID, account_id: UUID | None, grant: TokenGrant, grant_type: GrantType
    ) -> UUID:
        missing = self._accounts.policy.find_missing(grant.scopes)
        with answer_failures(missing_scopes=missing):
            user = await read_user(self._app.api, grant.access_token)
            connected = await self._connections.connect(
                NewConnection(workspace_id, account_id, grant, user, grant_type)
            )
        log.info(
            "account_connected",
            workspace_id=str(workspace_id),
            account_id=str(connected),
            mode=self._settings.pinterest_mode,
        )
        return connected

    async def _read_boards(self, account_id: UUID) -> None:
        """Reads the boards of a new connection. Waits for at most SYNC_SECONDS."""
        task = asyncio.create_task(self._sync(account_id))
        self._syncs.add(task)
        task.add_done_callback(self._syncs.discard)
        await asyncio.wait({task}, timeout=SYNC_SECONDS)

    async def _sync(self, account_id: UUID) -> None:
        try:
            await self._boards.sync(account_id)
        except DatabaseUnavailable as error:
            log.warning("boards_not_read", account_id=str(account_id), error=str(error))
        except Exception:
            # The account is connected. The periodic task reads its boards
            log.exception("boards_not_read", account_id=str(account_id))


async def _store(store: Callable[[], Awaitable[T]]) -> T:
    """Repeats `store`, which is idempotent, while Postgres is down, for at most STORE_SECONDS."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + STORE_SECONDS
    for attempt in itertools.count():
        try:
            return await store()
        except DatabaseUnavailable as error:
            if clock() > deadline:
                raise
            log.warning("connection_not_stored_yet", error=str(error))
        await asyncio.sleep(backoff(attempt, first=0.1, limit=1))
    raise AssertionError("unreachable")


def _describe_denial(callback: Callback) -> str:
    reason = quote(callback.error or "")[:100]
    if description := quote(callback.error_description or ""):
        reason = f"{reason} ({description})"
    return (
        f"Pinterest reports that the access was not allowed: {reason}. Nothing was connected. "
        f"{START_AGAIN}"
    )


def _state_invalid() -> ApiError:
    return ApiError(
        ErrorCode.OAUTH_STATE_INVALID,
        f"The state is not one that this installation issued. {START_AGAIN}",
        HTTPStatus.BAD_REQUEST,
    )
