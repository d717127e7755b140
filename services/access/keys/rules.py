"""Decides what a key may do with keys: it never sees, makes or changes one that may do more.

(Revoking needs the destructive scope alone.) Everything here raises ApiError.
"""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from shared.access.keys import Scope
from shared.access.model import Principal
from shared.access.refusals import require_scope, unauthorized
from shared.contract.errors import ApiError, ErrorCode, not_found

KeyRow = Mapping[str, Any]


def require_writing(asking: Principal | None) -> Principal:
    """Checks the asking key as it is now, not as it is remembered: one that was just revoked or
    narrowed must not leave an heir.
    """
    if asking is None:
        raise unauthorized("This API key is revoked.")
    return require_scope(asking, Scope.WRITE)


def require_visible(principal: Principal, key: KeyRow | None) -> KeyRow:
    """Returns the key if its accounts lie within the principal's, else 404."""
    if key is None or not covers(principal, key["account_ids"]):
        raise not_found("API key")
    return key


def require_changeable(asking: Principal, key: KeyRow, changes: Mapping[str, Any]) -> None:
    """Checks a change of a key. `changes` are columns: name, scopes, account_ids."""
    if key["revoked_at"] is not None:
        raise ApiError(
            ErrorCode.API_KEY_REVOKED, "This API key is revoked, for good.", HTTPStatus.CONFLICT
        )
    require_no_more(asking, key["scopes"], key["account_ids"])
    require_no_more(
        asking, changes.get("scopes", ()), changes.get("account_ids", key["account_ids"])
    )


def require_no_more(
    principal: Principal, scopes: Collection[str], account_ids: Collection[UUID] | None
) -> None:
    """Refuses (403) a key of these scopes and accounts (None: all) that could do what the principal
    can't.
    """
    if missing := [scope for scope in Scope if scope in scopes and scope not in principal.scopes]:
        message = (
            f"This API key lacks the scope {', '.join(missing)}: it can neither give it to a key, "
            "nor change one that has it."
        )
        raise ApiError(
            ErrorCode.INSUFFICIENT_SCOPE, message, HTTPStatus.FORBIDDEN, required_scope=missing[0]
        )
    if covers(principal, account_ids):
        return
    if account_ids is None:
        message = (
            "This API key has a list of accounts: name those of them that the key is to have in "
            "pinterest_account_ids."
        )
        raise ApiError(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)
    foreign = [str(account) for account in account_ids if not principal.permits(account)]
    message = (
        f"This API key does not have the account {', '.join(foreign)}, so it can't give it to a "
        "key."
    )
    raise ApiError(
        ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN, account_ids=foreign
    )


def require_accounts(account_ids: Collection[UUID], known: Collection[UUID]) -> None:
    """Refuses (422) accounts that the workspace does not have."""
    if unknown := [str(account) for account in account_ids if account not in known]:
        message = f"pinterest_account_ids: The workspace has no account {', '.join(unknown)}."
        raise ApiError(ErrorCode.ACCOUNT_NOT_FOUND, message, account_ids=unknown)


def require_room(active: int, limit: int) -> None:
    """Refuses (409) another key if the workspace has as many as it may have."""
    if active >= limit:
        message = (
            f"This workspace has {limit} API keys, as many as it may have. Revoke one that is not "
            "needed."
        )
        raise ApiError(ErrorCode.TOO_MANY_API_KEYS, message, HTTPStatus.CONFLICT, limit=limit)


def covers(principal: Principal, account_ids: Collection[UUID] | None) -> bool:
    """Tells whether a key of these accounts (None: all) lies within the principal's."""
    return principal.account_ids is None or (
        account_ids is not None and principal.account_ids.issuperset(account_ids)
    )
