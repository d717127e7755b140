"""Defines the HTTP models of connecting an account."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import ConfigDict

from services.access.oauth.rules import AttemptStatus, find_status
from shared.contract.errors import ErrorCode
from shared.http.models import ApiModel

CONNECTED = "The account is connected to Pinterest."


class OAuthStartResponse(ApiModel):
    """An attempt to connect an account."""

    authorization_url: str
    """The page at Pinterest where the account's user allows the access. Open it in a browser."""
    attempt_id: UUID
    """The attempt's id: GET /v1/pinterest/oauth/attempts/{attempt_id} says what became of it."""
    expires_at: datetime
    """Until when the user can allow the access, in UTC."""


class OAuthCallbackResponse(ApiModel):
    """The account that was connected."""

    status: Literal["connected"] = "connected"
    """Always `connected`: every other result is an error."""
    message: str = CONNECTED
    """The result in words."""
    account_id: UUID
    """The connected account."""


class OAuthAttemptResponse(ApiModel):
    """An attempt to connect an account, and its result."""

    id: UUID
    """The attempt's id."""
    status: AttemptStatus
    """`pending`, `connected`, `failed` or `expired`."""
    account_id: UUID | None
    """The account that was connected, or that is to be connected again. Null for a new account
    until it is connected."""
    code: ErrorCode | None
    """The error code of a failed attempt. Null otherwise."""
    message: str | None
    """The reason why the attempt failed, and what to do next. Null if it has not failed."""
    expires_at: datetime
    """Until when the user can allow the access, in UTC."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "OAuthAttemptResponse":
        return cls(
            id=row["id"],
            status=find_status(row),
            account_id=row["connected_account_id"] or row["account_id"],
            code=row["error_code"],
            message=row["error_message"],
            expires_at=row["expires_at"],
        )


class AppOwnerConnection(ApiModel):
    """A request of an operator to connect the account of the app's owner."""

    model_config = ConfigDict(extra="forbid")

    workspace_id: UUID
    account_id: UUID | None = None
    """The account to connect. Null: the account of the app's owner, or a new one."""
