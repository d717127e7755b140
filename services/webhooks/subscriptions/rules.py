"""Checks requests about webhooks: permission, destination, limit and state.

Every check raises ApiError.
"""

from http import HTTPStatus

from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.contract.events import Fault
from shared.http.address_rules import AddressRules
from shared.http.requests import validation_error
from shared.postgres.row import Row


def require_whole_workspace(principal: Principal) -> None:
    """Rejects (403) an API key that is limited to some accounts: webhooks get events of all."""
    if principal.account_ids is not None:
        message = (
            "This API key is limited to some accounts, but webhooks get events of all accounts. "
            "Use a key without a list of accounts."
        )
        raise ApiError(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)


def require_allowed_address(rules: AddressRules, url: str) -> None:
    """Rejects (422) a URL whose port or IP address is not allowed, also that of localhost.

    Any other host name is resolved, and its addresses are checked, at each connection.
    """
    if (reason := rules.find_violation(url)) is not None:
        raise validation_error(
            [Fault(code="url_destination", field="url", message=reason, value=None)]
        )


def require_below_limit(current: int, limit: int) -> None:
    """Rejects (409) another webhook if the workspace has the maximum."""
    if current >= limit:
        message = f"The workspace already has {limit} webhooks, the maximum. Delete one first."
        raise ApiError(
            ErrorCode.TOO_MANY_WEBHOOKS, message, HTTPStatus.CONFLICT, limit=limit, current=current
        )


def require_enabled(webhook: Row) -> None:
    """Rejects (409) resending a disabled webhook's delivery."""
    if not webhook["is_enabled"]:
        message = "The webhook is disabled, so nothing is sent to it. Enable it first."
        raise ApiError(ErrorCode.WEBHOOK_DISABLED, message, HTTPStatus.CONFLICT)


def require_found(row: Row | None, resource: str) -> Row:
    """Returns the row. Raises 404 for None.

    Another workspace's webhook is answered as if it did not exist.
    """
    if row is None:
        raise not_found(resource)
    return row
