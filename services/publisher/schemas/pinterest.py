"""HTTP models of accounts and boards."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel


class AccountResponse(BaseModel):
    id: UUID
    workspace_id: UUID
    pinterest_user_id: str
    display_name: str | None
    username: str | None
    scopes: str = "boards:read,pins:read,pins:write"
    created_at: datetime
    updated_at: datetime
    revoked_at: datetime | None
    token_expires_at: datetime | None = None
    health_status: str
    health_message: str | None = None
    health_checked_at: datetime | None = None
    reconnect_required: bool
    missing_scopes: list[str] = []

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "AccountResponse":
        revoked = row["revoked_at"] is not None
        return cls(**row, pinterest_user_id=str(row["id"]), health_status="revoked" if revoked else "healthy", reconnect_required=revoked)


class BoardResponse(BaseModel):
    id: str
    name: str
    description: str | None
    privacy: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "BoardResponse":
        return cls(id=row["board_id"], name=row["name"], description=row["description"], privacy=row["privacy"])
