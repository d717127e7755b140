"""Defines the HTTP models of accounts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from services.access.accounts.health import (
    SCOPES_WITHOUT_CONNECTION,
    ConnectionPolicy,
    HealthStatus,
    judge_health,
)
from shared.http.fields import CreatedAt, RevokedAt, UpdatedAt, WorkspaceId
from shared.http.models import ApiModel

_Status = Annotated[
    HealthStatus,
    Field(
        description="`healthy`; `degraded` if the account works, but the last refresh or the last "
        "read of its boards failed; `reconnect_required` if its user has to allow the access "
        "again; `revoked` if nothing can be published to it."
    ),
]
_Message = Annotated[
    str | None, Field(description="Details of the health status. Null if there are none.")
]
_Reconnect = Annotated[
    bool,
    Field(
        description="True if the account works only after it has been connected again. An operator "
        "can restore a revoked account that was never connected."
    ),
]
_MissingScopes = Annotated[
    list[str],
    Field(
        description="Rights at Pinterest that Pinflow asks for and the account lacks. Empty for an "
        "account without a connection."
    ),
]


class AccountResponse(ApiModel):
    """A Pinterest account of the workspace."""

    id: UUID
    """The account's id: the `account_id` of rows, pins, schedules and boards."""
    workspace_id: WorkspaceId
    pinterest_user_id: str
    """The user's id at Pinterest. It equals `id` if the account was never connected."""
    display_name: str | None
    """The account's name for people. Null if it has none."""
    username: str | None
    """The account's user name. Null if it has none."""
    scopes: str
    """The account's rights at Pinterest, separated by commas."""
    created_at: CreatedAt
    updated_at: UpdatedAt
    revoked_at: RevokedAt
    token_expires_at: datetime | None
    """When the account's access token expires. Pinflow refreshes it before. Null if the account is
    not connected to Pinterest."""
    health_status: _Status
    health_message: _Message
    health_checked_at: datetime | None
    """When the account was last checked at Pinterest. Null if it was never connected."""
    reconnect_required: _Reconnect
    missing_scopes: _MissingScopes

    @classmethod
    def from_row(cls, row: Mapping[str, Any], policy: ConnectionPolicy) -> "AccountResponse":
        """Builds the answer from an account's row with its connection, or None."""
        connection = row["connection"]
        health = AccountHealth.from_row(row, policy)
        if connection is None:
            return cls(
                **row,
                **dict(health),
                pinterest_user_id=str(row["id"]),
                scopes=SCOPES_WITHOUT_CONNECTION,
                token_expires_at=None,
                health_checked_at=None,
            )
        has_tokens = connection["disconnected_at"] is None
        return cls(
            **row,
            **dict(health),
            pinterest_user_id=connection["pinterest_user_id"],
            scopes=",".join(connection["scopes"]),
            token_expires_at=connection["token_expires_at"] if has_tokens else None,
            health_checked_at=connection["checked_at"],
        )


class AccountHealth(ApiModel):
    """The health of an account."""

    health_status: _Status
    health_message: _Message
    reconnect_required: _Reconnect
    missing_scopes: _MissingScopes

    @classmethod
    def from_row(cls, row: Mapping[str, Any], policy: ConnectionPolicy) -> "AccountHealth":
        """Builds the answer from an account's row with its connection, or None."""
        health = judge_health(row, policy)
        return cls(
            health_status=health.status,
            health_message=health.message,
            reconnect_required=health.is_reconnect_required,
            missing_scopes=list(health.missing_scopes),
        )
