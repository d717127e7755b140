"""Builds the errors of authentication (401) and authorization (403)."""

from http import HTTPStatus

from shared.access.keys import Scope
from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode


def unauthorized(message: str) -> ApiError:
    return ApiError(
        ErrorCode.UNAUTHORIZED,
        message,
        HTTPStatus.UNAUTHORIZED,
        headers={"WWW-Authenticate": 'Bearer realm="pinflow"'},
    )


def require_scope(principal: Principal, scope: Scope) -> Principal:
    """Returns the principal. Raises ApiError (403) if its key lacks the scope."""
    if scope not in principal.scopes:
        message = f"Your API key lacks the scope {scope}. Use a key that has it."
        raise ApiError(
            ErrorCode.INSUFFICIENT_SCOPE, message, HTTPStatus.FORBIDDEN, required_scope=scope
        )
    return principal
