"""Keys that manage keys: none sees, makes or changes one that may do more than itself. (Revoking
wants the destructive scope alone.)
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from uuid import UUID

from sqlalchemy import func

from services.access.keys.repository import KeyRepository, TooManyKeys, UnknownAccounts
from shared.access.authentication import unauthorized
from shared.access.dependencies import require_scope
from shared.access.keys import Scope, new_api_key
from shared.access.model import Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import ErrorCode, RequestRefused, not_found
from shared.postgres.row import Row

DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)
"""Of a key that is asked for without: it can work, but destroy nothing that it was not trusted with
by name.
"""


class ApiKeys:
    """Raises RequestRefused."""

    def __init__(self, keys: KeyRepository, access: AccessRepository, most: int) -> None:
        self._keys = keys
        self._access = access
        self._most = most

    async def visible_to(self, who: Principal) -> list[Row]:
        return await self._keys.list_keys(who.workspace_id, within=who.account_ids)

    async def create(
        self,
        who: Principal,
        *,
        name: str,
        scopes: Collection[Scope] | None,
        account_ids: Collection[UUID] | None,
    ) -> tuple[Row, str]:
        """The key as it is listed, and the key itself."""
        granted = scopes or DEFAULT_SCOPES
        key = new_api_key()

        def permit(asking: Principal | None) -> None:
            require_no_more(_writing(asking), granted, account_ids)

        with self._refusals():
            row = await self._keys.create(
                who.workspace_id,
                key,
                name=name,
                scopes=granted,
                account_ids=account_ids,
                most=self._most,
                by=who.key_id,
                permit=permit,
            )
        return row, key.plain

    async def change(self, who: Principal, key_id: UUID, changes: Mapping[str, Any]) -> Row:
        """`changes` are columns: name, scopes, account_ids."""

        def judge(row: Row, now: Principal | None) -> Mapping[str, Any]:
            asking = _writing(now)
            if not _sees(asking, row["account_ids"]):
                raise not_found("API key")
            if row["revoked_at"] is not None:
                raise RequestRefused(
                    ErrorCode.API_KEY_REVOKED,
                    "This API key is revoked, for good.",
                    HTTPStatus.CONFLICT,
                )
            require_no_more(asking, row["scopes"], row["account_ids"])
            require_no_more(
                asking, changes.get("scopes", ()), changes.get("account_ids", row["account_ids"])
            )
            return changes

        with self._refusals():
            return _found(await self._keys.change(who.workspace_id, key_id, judge, by=who.key_id))

    async def revoke(self, who: Principal, key_id: UUID) -> None:
        """Again, it changes nothing."""

        def judge(row: Row, _: Principal | None) -> Mapping[str, Any]:
            if not _sees(who, row["account_ids"]):
                raise not_found("API key")
            return {} if row["revoked_at"] is not None else {"revoked_at": func.now()}

        _found(await self._keys.change(who.workspace_id, key_id, judge))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except UnknownAccounts as unknown:
            ids = [str(one) for one in unknown.account_ids]
            raise RequestRefused(
                ErrorCode.ACCOUNT_NOT_FOUND, f"pinterest_account_ids: {unknown}", account_ids=ids
            ) from None
        except TooManyKeys:
            message = (
                f"This workspace has {self._most} API keys, as many as it may have. Revoke one "
                "that is not needed."
            )
            raise RequestRefused(
                ErrorCode.TOO_MANY_API_KEYS, message, HTTPStatus.CONFLICT, limit=self._most
            ) from None


def require_no_more(
    who: Principal, scopes: Collection[str], account_ids: Collection[UUID] | None
) -> None:
    """Raises RequestRefused (403) when a key of these scopes and accounts (None: all) could do what
    `who` can't.
    """
    if missing := [scope for scope in Scope if scope in scopes and scope not in who.scopes]:
        message = (
            f"This API key lacks the scope {', '.join(missing)}: it can neither give it to a key, "
            "nor change one that has it."
        )
        raise RequestRefused(
            ErrorCode.INSUFFICIENT_SCOPE, message, HTTPStatus.FORBIDDEN, required_scope=missing[0]
        )
    if _sees(who, account_ids):
        return
    if account_ids is None:
        message = (
            "This API key has a list of accounts: name those of them that the key is to have in "
            "pinterest_account_ids."
        )
        raise RequestRefused(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)
    foreign = [str(one) for one in account_ids if not who.permits(one)]
    message = (
        f"This API key does not have the account {', '.join(foreign)}, so it can't give it to a "
        "key."
    )
    raise RequestRefused(
        ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN, account_ids=foreign
    )


def _writing(asking: Principal | None) -> Principal:
    """The asking key as it is, not as it is remembered: one that was just revoked or narrowed must
    not leave an heir.
    """
    if asking is None:
        raise unauthorized("This API key is revoked.")
    return require_scope(asking, Scope.WRITE)


def _sees(who: Principal, account_ids: Collection[UUID] | None) -> bool:
    """Whether a key of these accounts lies within the asking one's."""
    return who.account_ids is None or (
        account_ids is not None and who.account_ids.issuperset(account_ids)
    )


def _found(row: Row | None) -> Row:
    if row is None:
        raise not_found("API key")
    return row
