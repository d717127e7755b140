"""Calls Pinterest for a connected account, and connects, refreshes and disconnects accounts."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from pydantic import SecretStr

from services.access.config import AccessSettings
from services.access.connections.link import PinterestLink
from services.access.connections.model import (
    AccountMismatch,
    Connection,
    NewConnection,
    NotConnected,
    PinterestOff,
)
from services.access.connections.repository import ConnectionRepository
from services.access.connections.rules import (
    REVOKED_MESSAGE,
    SCOPE_MESSAGE,
    FailedRefresh,
    give_up,
)
from services.access.connections.stored import OpenedConnection
from services.access.connections.transactions import LockedWorkspace
from services.access.connections.vault import Tokens
from shared.access.connection_health import GIVEN_UP, HealthCode
from shared.contract.errors import Unavailable
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused

log = structlog.get_logger()

CHECKED_AFTER = timedelta(minutes=1)
"""checked_at is at most this much too old. Otherwise each call would write to the database."""

MAX_CALLS_PER_ACCOUNT = 20
"""Maximum calls of one account at the same time in this process. So one account can't take all
connections to Pinterest, and all places for requests, while Pinterest hangs."""

T = TypeVar("T")


class ConnectionService:
    """The use cases of connections.

    `call` and `list_all` raise a PinterestFailure, NotConnected, PinterestOff or TokenKeyMissing.
    A connection that Pinterest refused before raises Refused with Cause.TOKEN, without a request.
    """

    def __init__(
        self,
        repository: ConnectionRepository,
        settings: AccessSettings,
        link: PinterestLink | None,
    ) -> None:
        """Takes the link to Pinterest, or None if the mode is off."""
        self._repository = repository
        self._mode = settings.pinterest_mode
        self._scopes = frozenset(settings.asked_scopes)
        self._optional_link = link
        self._calls: Counter[UUID] = Counter()

    async def find(self, account_id: UUID) -> Connection | None:
        """Returns an account's connection. None: the account was never connected."""
        return await self._repository.find(account_id)

    async def require(self, account_id: UUID) -> Connection:
        """Returns an account's connection. Raises NotConnected."""
        connection = await self.find(account_id)
        if connection is None or not connection.is_connected:
            raise NotConnected(account_id)
        return connection

    async def call(
        self,
        account_id: UUID,
        operation: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        document: Any = None,
    ) -> Any:
        """Sends one request with the account's access token. Returns the answer's JSON.

        A token that Pinterest refuses is refreshed once, then the request is sent once more: the
        first one surely did nothing. If the refresh fails, raises NotSent.
        """
        api = self._link.api
        return await self._with_token(
            account_id,
            operation,
            lambda token: api.call(
                operation, method, path, token=token, params=params, document=document
            ),
        )

    async def list_all(
        self,
        account_id: UUID,
        operation: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Reads all pages of a list with the account's access token."""
        api = self._link.api
        return await self._with_token(
            account_id,
            operation,
            lambda token: api.list_all(operation, path, token=token, params=params),
        )

    async def connect(self, new: NewConnection) -> UUID:
        """Stores a grant. Returns the id of the connected account, which is not revoked any more.

        Raises AccountMismatch, and PinterestOff.
        """
        refresher = self._link.refresher
        tokens = Tokens(new.grant.access_token, new.grant.refresh_token)
        async with self._repository.lock_workspace(new.workspace_id) as locked:
            account_id = await _choose_account(locked, new, self._mode)
            sealed = refresher.seal(account_id, tokens, new.grant.expires_in)
            await locked.connect(account_id, new, sealed)
        return account_id

    async def disconnect(self, workspace_id: UUID, account_id: UUID) -> bool:
        """Revokes an account and deletes its tokens. Idempotent. Returns False if it is unknown."""
        is_known = await self._repository.disconnect(workspace_id, account_id)
        if is_known:
            log.info(
                "account_disconnected",
                workspace_id=str(workspace_id),
                account_id=str(account_id),
            )
        return is_known

    async def refresh(
        self, account_id: UUID, seen_version: int, *, is_refused: bool = False
    ) -> int:
        """Refreshes the tokens if their version is still `seen_version`. Returns the new version.

        `is_refused`: Pinterest refused the access token of that version, so it does not work even
        if it has not expired. Raises a PinterestFailure, NotConnected, PinterestOff or
        TokenKeyMissing.
        """
        try:
            return await self._link.refresher.refresh(account_id, seen_version)
        except Refused:
            if is_refused:
                await self._give_up(account_id, seen_version)
            raise

    async def close(self) -> None:
        """Waits for refreshes that are in flight, then closes the connections to Pinterest."""
        if self._optional_link is not None:
            await self._optional_link.close()

    @property
    def _link(self) -> PinterestLink:
        if self._optional_link is None:
            raise PinterestOff("PINFLOW_PINTEREST_MODE is off.")
        return self._optional_link

    async def _with_token(
        self, account_id: UUID, operation: str, send: Callable[[SecretStr], Awaitable[T]]
    ) -> T:
        """Sends a request with the account's token; if it is refused, again with a new one."""
        with (
            self._count_call(account_id, operation),
            structlog.contextvars.bound_contextvars(account_id=str(account_id)),
        ):
            return await self._send(account_id, operation, send)

    @contextmanager
    def _count_call(self, account_id: UUID, operation: str) -> Iterator[None]:
        """Raises NotSent if too many calls of the account are in progress."""
        if self._calls[account_id] >= MAX_CALLS_PER_ACCOUNT:
            raise NotSent(operation, "Too many requests of the account wait for Pinterest.")
        self._calls[account_id] += 1
        try:
            yield
        finally:
            self._calls[account_id] -= 1
            if not self._calls[account_id]:
                del self._calls[account_id]

    async def _send(
        self, account_id: UUID, operation: str, send: Callable[[SecretStr], Awaitable[T]]
    ) -> T:
        opened = await self._open(account_id, operation)
        if opened.connection.token_expires_at <= opened.now:
            opened = await self._refresh_opened(opened, operation)
        try:
            answer = await send(self._read_token(opened))
        except Refused as refusal:
            await self._note_scope(opened, refusal)
            if refusal.cause is not Cause.TOKEN:
                raise
            if opened.is_refusal_recent:
                raise _refuse_for_now(operation) from refusal
            opened = await self._refresh_opened(opened, operation, is_refused=True)
            answer = await self._send_again(opened, send)
        await self._note_success(opened)
        return answer

    async def _send_again(
        self, opened: OpenedConnection, send: Callable[[SecretStr], Awaitable[T]]
    ) -> T:
        try:
            return await send(self._read_token(opened))
        except Refused as refusal:
            await self._note_scope(opened, refusal)
            if refusal.cause is not Cause.TOKEN:
                raise
            if await self._note_refused_token(opened.connection):
                raise
            raise _refuse_for_now(refusal.operation) from refusal

    async def _note_refused_token(self, connection: Connection) -> bool:
        """Notes that a new token was refused. Returns whether the connection was given up."""
        account_id, version = connection.account_id, connection.token_version
        failed = await self._repository.note_refused_token(account_id, version)
        if failed is None:
            return False
        log.warning(
            "new_token_refused",
            account_id=str(account_id),
            workspace_id=str(connection.workspace_id),
            health_code=failed.health_code,
            retry_seconds=failed.retry_seconds,
        )
        if failed.health_code not in GIVEN_UP:
            return False
        _log_given_up(connection, failed)
        return True

    async def _open(self, account_id: UUID, operation: str) -> OpenedConnection:
        """Reads a connection that can be used. Raises NotConnected, or Refused if given up."""
        opened = await self._repository.open(account_id)
        if opened is None or opened.secret is None or not opened.connection.is_connected:
            raise NotConnected(account_id)
        connection = opened.connection
        if connection.mode != self._mode:
            raise NotConnected(
                account_id,
                f"The account was connected in the mode {connection.mode}, but this installation "
                f"is in the mode {self._mode}.",
            )
        if connection.health_code in GIVEN_UP:
            message = connection.health_message or REVOKED_MESSAGE
            raise Refused(operation, message, status=401, code=None, cause=Cause.TOKEN)
        return opened

    def _read_token(self, opened: OpenedConnection) -> SecretStr:
        if opened.secret is None:  # disconnected: _open has refused it
            raise NotConnected(opened.connection.account_id)
        vault = self._link.vault
        return vault.open(opened.connection.account_id, opened.secret).access_token

    async def _refresh_opened(
        self, opened: OpenedConnection, operation: str, *, is_refused: bool = False
    ) -> OpenedConnection:
        """Refreshes the tokens. Raises NotSent if that fails: the request itself did nothing."""
        connection = opened.connection
        try:
            await self.refresh(
                connection.account_id, connection.token_version, is_refused=is_refused
            )
        except (NotSent, AnswerLost) as failure:
            raise NotSent(operation, f"The token was not refreshed. {failure.message}") from failure
        return await self._open(connection.account_id, operation)

    async def _give_up(self, account_id: UUID, version: int) -> None:
        """Notes that Pinterest refuses the account's tokens. A later refresh may change that."""
        opened = await self._repository.open(account_id)
        if opened is not None:
            failed = give_up(opened.now, opened.connection.refresh_expires_at)
            if await self._repository.give_up(account_id, version, failed):
                _log_given_up(opened.connection, failed)

    async def _note_scope(self, opened: OpenedConnection, refusal: Refused) -> None:
        """Notes a missing right at the connection, if its user did not allow everything.

        Otherwise the app lacks the right, and connecting the account again would not help.
        """
        connection = opened.connection
        if refusal.cause is Cause.SCOPE and self._scopes - set(connection.scopes):
            await self._repository.set_health(
                connection.account_id,
                connection.token_version,
                HealthCode.SCOPE_MISSING,
                SCOPE_MESSAGE,
            )

    async def _note_success(self, opened: OpenedConnection) -> None:
        connection = opened.connection
        account_id, version = connection.account_id, connection.token_version
        checked_at = connection.checked_at
        is_recent = checked_at is not None and opened.now - checked_at < CHECKED_AFTER
        try:
            if opened.is_refused:
                await self._repository.forget_refused_tokens(account_id, version)
            elif not is_recent:
                await self._repository.set_checked(account_id, version)
        except Unavailable as error:  # the answer of Pinterest counts
            log.warning("check_not_recorded", error=str(error))


def _refuse_for_now(operation: str) -> NotSent:
    """Builds the failure of a request that did nothing, and may succeed with later tokens."""
    return NotSent(operation, "Pinterest refused an access token that it had just issued.")


def _log_given_up(connection: Connection, failed: FailedRefresh) -> None:
    log.warning(
        "connection_given_up",
        account_id=str(connection.account_id),
        workspace_id=str(connection.workspace_id),
        health_code=failed.health_code,
    )


async def _choose_account(locked: LockedWorkspace, new: NewConnection, mode: str) -> UUID:
    """Returns the account that a grant connects. Raises AccountMismatch."""
    of_user = await locked.find_connection_of_user(new.user.id)
    if new.account_id is None:
        if of_user is None:
            return await locked.create_account(new.user.username)
        return of_user.account_id
    if not await locked.find_account(new.account_id):
        raise AccountMismatch(f"The workspace has no account {new.account_id}.")
    connection = await locked.find_connection(new.account_id)
    if (
        connection is not None
        and connection.mode == mode
        and connection.pinterest_user_id != new.user.id
    ):
        raise AccountMismatch(
            "The access was allowed for another user of Pinterest than the account's. Log in to "
            "Pinterest as the account's user, or connect a new account."
        )
    if of_user is not None and of_user.is_connected and of_user.account_id != new.account_id:
        raise AccountMismatch(
            f"This user of Pinterest is already connected as the account {of_user.account_id}."
        )
    return new.account_id
