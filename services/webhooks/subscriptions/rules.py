"""Checks requests about webhooks: permission, destination, limit, state.

Every check raises ApiError.
"""

from http import HTTPStatus

from services.webhooks.delivery.ssrf import AddressRules
from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.contract.events import Fault
from shared.http.requests import validation_error
from shared.postgres.row import Row


def require_whole_workspace(principal: Principal) -> None:
    """Refuses (403) a key with a list of accounts: a webhook gets events of all accounts."""
    if principal.account_ids is not None:
        message = (
            "Webhooks are told of all the workspace's accounts; this API key is limited to some."
        )
        raise ApiError(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)


def require_allowed_destination(rules: AddressRules, url: str) -> None:
    """Refuses (422) a URL whose port or IP address is not allowed.

    A name is resolved, and its addresses checked, at each connection.
    """
    if (reason := rules.refusal(url)) is not None:
        raise validation_error(
            [Fault(code="url_destination", field="url", message=reason, value=None)]
        )


def require_below_limit(current: int, limit: int) -> None:
    """Refuses (409) another webhook if the workspace has as many as it may have."""
    if current >= limit:
        message = f"A workspace has at most {limit} webhooks; delete one first."
        raise ApiError(
            ErrorCode.TOO_MANY_WEBHOOKS, message, HTTPStatus.CONFLICT, limit=limit, current=current
        )


def require_enabled(webhook: Row) -> None:
    """Refuses (409) to resend a disabled webhook's delivery."""
    if not webhook["is_enabled"]:
        message = "The webhook is disabled: nothing is sent to it. Enable it first."
        raise ApiError(ErrorCode.WEBHOOK_DISABLED, message, HTTPStatus.CONFLICT)


def require_found(row: Row | None, what: str) -> Row:
    """Returns the row. Raises 404 for None.

    Another workspace's webhook looks like one that does not exist.
    """
    if row is None:
        raise not_found(what)
    return row
