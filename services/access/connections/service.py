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
from services.access.connections.budgets import RequestBudget
from services.access.connections.link import PinterestLink
from services.access.connections.model import (
    AccountMismatch,
    Connection,
    NewConnection,
    NotConnected,
)
from services.access.connections.repository import ConnectionRepository
from services.access.connections.stored import OpenedConnection
from services.access.connections.transactions import LockedWorkspace
from services.access.connections.usable import UsableConnections, refuse_for_now
from services.access.connections.vault import Tokens
from shared.contract.errors import Unavailable
from shared.pinterest.failures import Cause, NotSent, Refused
from shared.pinterest.model import Category

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
        budget: RequestBudget | None = None,
    ) -> None:
        """Takes the link to Pinterest, or None if the mode is off.

        Without a budget, calls are not counted.
        """
        self._repository = repository
        self._mode = settings.pinterest_mode
        self._usable = UsableConnections(repository, settings, link)
        self._optional_link = link
        self._budget = budget
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
        api = self._usable.require_link().api
        return await self._with_token(
            account_id,
            operation,
            Category.READ if method == "GET" else Category.WRITE,
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
        """Reads all pages of a list with the account's access token. Counts as one request."""
        api = self._usable.require_link().api
        return await self._with_token(
            account_id,
            operation,
            Category.READ,
            lambda token: api.list_all(operation, path, token=token, params=params),
        )

    async def connect(self, new: NewConnection) -> UUID:
        """Stores a grant. Returns the id of the connected account, which is not revoked any more.

        Raises AccountMismatch, and PinterestOff.
        """
        refresher = self._usable.require_link().refresher
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

    async def refresh(self, account_id: UUID, seen_version: int) -> int:
        """Refreshes the tokens if their version is still `seen_version`. Returns the new version.

        Raises a PinterestFailure, NotConnected, PinterestOff or TokenKeyMissing.
        """
        return await self._usable.refresh(account_id, seen_version)

    async def close(self) -> None:
        """Waits for refreshes that are in flight, then closes the connections to Pinterest."""
        if self._optional_link is not None:
            await self._optional_link.close()

    async def _with_token(
        self,
        account_id: UUID,
        operation: str,
        category: Category,
        send: Callable[[SecretStr], Awaitable[T]],
    ) -> T:
        """Sends a request with the account's token; if it is refused, again with a new one."""

        async def send_within_budget(token: SecretStr) -> T:
            if self._budget is not None:
                await self._budget.require(account_id, operation, category)
            return await send(token)

        with (
            self._count_call(account_id, operation),
            structlog.contextvars.bound_contextvars(account_id=str(account_id)),
        ):
            return await self._send(account_id, operation, send_within_budget)

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
        opened = await self._usable.open(account_id, operation)
        if opened.connection.token_expires_at <= opened.now:
            opened = await self._usable.refresh_opened(opened, operation)
        try:
            answer = await send(self._usable.read_token(opened))
        except Refused as refusal:
            await self._note_scope(opened.connection, refusal)
            if refusal.cause is not Cause.TOKEN:
                raise
            if opened.is_refusal_recent:
                raise refuse_for_now(operation) from refusal
            opened = await self._usable.refresh_opened(opened, operation, is_refused=True)
            answer = await self._send_again(opened, send)
        await self._note_success(opened)
        return answer

    async def _send_again(
        self, opened: OpenedConnection, send: Callable[[SecretStr], Awaitable[T]]
    ) -> T:
        try:
            return await send(self._usable.read_token(opened))
        except Refused as refusal:
            await self._note_scope(opened.connection, refusal)
            if refusal.cause is not Cause.TOKEN:
                raise
            if await self._usable.note_refused_token(opened.connection):
                raise
            raise refuse_for_now(refusal.operation) from refusal

    async def _note_scope(self, connection: Connection, refusal: Refused) -> None:
        if refusal.cause is Cause.SCOPE:
            await self._usable.note_missing_scope(connection, connection.token_version)

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
