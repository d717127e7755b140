"""Decides what an API key may do with keys.

A key sees only keys whose accounts it may use, whatever their scopes. It never creates or changes a
key that has more rights. To revoke a key that it sees, it needs only the scope `destructive`.

Functions whose name begins with `require` raise ApiError.
"""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from shared.access.errors import require_scope, unauthorized
from shared.access.keys import Scope
from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode, not_found

KeyRow = Mapping[str, Any]


def require_writing(caller: Principal | None) -> Principal:
    """Checks the caller's key as it is now in the database, not as it is cached.

    Raises 401 if it is revoked, and 403 if it lacks the scope `write`. A key that was just revoked
    or restricted must not create or change a key.
    """
    if caller is None:
        raise unauthorized("Your API key is revoked. Use an active key.")
    return require_scope(caller, Scope.WRITE)


def require_visible(principal: Principal, key: KeyRow | None) -> KeyRow:
    """Returns the key if the principal may use all of its accounts. Raises 404 otherwise."""
    if key is None or not covers_accounts(principal, key["account_ids"]):
        raise not_found("API key")
    return key


def require_changeable(caller: Principal, key: KeyRow, changes: Mapping[str, Any]) -> None:
    """Checks a change of a key. `changes` are columns: name, scopes, account_ids."""
    if key["revoked_at"] is not None:
        raise ApiError(
            ErrorCode.API_KEY_REVOKED,
            "The API key is revoked and cannot be changed. Create a new key.",
            HTTPStatus.CONFLICT,
        )
    require_no_more_rights(caller, key["scopes"], key["account_ids"])
    require_no_more_rights(
        caller, changes.get("scopes", ()), changes.get("account_ids", key["account_ids"])
    )


def require_no_more_rights(
    principal: Principal, scopes: Collection[str], account_ids: Collection[UUID] | None
) -> None:
    """Raises 403 if these scopes and accounts (None: all) are more than the principal has."""
    if missing := [scope for scope in Scope if scope in scopes and scope not in principal.scopes]:
        message = (
            f"Your API key lacks these scopes: {', '.join(missing)}. It cannot create or change a "
            "key that has them. Use a key with these scopes."
        )
        raise ApiError(
            ErrorCode.INSUFFICIENT_SCOPE, message, HTTPStatus.FORBIDDEN, required_scope=missing[0]
        )
    if covers_accounts(principal, account_ids):
        return
    if account_ids is None:
        message = (
            "Your API key is limited to some accounts, so it can't create or change a key that may "
            "use all accounts. List in pinterest_account_ids only accounts that your key may use."
        )
        raise ApiError(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)
    foreign = [str(account) for account in account_ids if not principal.permits(account)]
    message = (
        f"pinterest_account_ids: your API key may not use {', '.join(foreign)}. A key can grant "
        "only accounts that it may use. Remove these ids."
    )
    raise ApiError(
        ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN, account_ids=foreign
    )


def require_accounts(account_ids: Collection[UUID], existing: Collection[UUID]) -> None:
    """Raises 422 if the workspace does not have one of the accounts."""
    if unknown := [str(account) for account in account_ids if account not in existing]:
        message = (
            f"pinterest_account_ids: The workspace has no account {', '.join(unknown)}. Use ids "
            "from GET /v1/pinterest/accounts."
        )
        raise ApiError(ErrorCode.ACCOUNT_NOT_FOUND, message, account_ids=unknown)


def require_below_limit(active: int, limit: int) -> None:
    """Raises 409 if the workspace already has the maximum number of keys."""
    if active >= limit:
        message = (
            f"The workspace has reached its limit of {limit} API keys. Revoke a key that is not "
            "needed."
        )
        raise ApiError(ErrorCode.TOO_MANY_API_KEYS, message, HTTPStatus.CONFLICT, limit=limit)


def covers_accounts(principal: Principal, account_ids: Collection[UUID] | None) -> bool:
    """Returns whether the principal may use all of these accounts (None: all accounts)."""
    return principal.account_ids is None or (
        account_ids is not None and principal.account_ids.issuperset(account_ids)
    )
