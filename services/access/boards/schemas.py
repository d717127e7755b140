"""Defines the HTTP models of accounts and boards."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.access.text_fields import (
    NOT_BLANK,
    WITHOUT_NUL,
    require_any_of,
    require_storable,
    require_text,
)
from shared.contract.errors import ErrorCode

Privacy = Literal["PUBLIC", "PROTECTED", "SECRET"]
BoardName = Annotated[
    str, StringConstraints(max_length=180), AfterValidator(require_text), NOT_BLANK
]
Description = Annotated[
    str, StringConstraints(max_length=500), AfterValidator(require_storable), WITHOUT_NUL
]
"""Text of a board's description. Pinterest has the same maximum length."""


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
    def from_row(cls, row: Mapping[str, Any]) -> "AccountResponse":
        revoked = row["revoked_at"] is not None
        return cls(
            **row,
            pinterest_user_id=str(row["id"]),
            health_status="revoked" if revoked else "healthy",
            reconnect_required=revoked,
        )


class BoardResponse(BaseModel):
    id: str
    name: str
    description: str | None
    privacy: str | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "BoardResponse":
        return cls(
            id=row["board_id"],
            name=row["name"],
            description=row["description"],
            privacy=row["privacy"],
        )


class BoardCreate(BaseModel):
    account_id: UUID
    name: BoardName
    description: Description | None = None
    privacy: Privacy | None = Field(None, description="Default: PUBLIC.")

    def values(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description or None,
            "privacy": self.privacy or "PUBLIC",
        }


class BoardUpdate(BaseModel):
    """Fields that are absent or null do not change.

    To remove the description, send an empty one.
    """

    model_config = ConfigDict(json_schema_extra=require_any_of("name", "description", "privacy"))

    account_id: UUID
    name: BoardName | None = None
    description: Description | None = None
    privacy: Privacy | None = None

    @model_validator(mode="after")
    def _require_a_change(self) -> "BoardUpdate":
        if not self.changes():
            raise PydanticCustomError(
                "no_change", "Provide at least one of name, description or privacy"
            )
        return self

    def changes(self) -> dict[str, Any]:
        fields = {"name": self.name, "description": self.description, "privacy": self.privacy}
        return {name: value or None for name, value in fields.items() if value is not None}


class AccountHealth(BaseModel):
    health_status: str
    health_message: str | None
    reconnect_required: bool
    missing_scopes: list[str]


class BoardAccessResponse(BaseModel):
    account_id: UUID
    board_id: str
    publishable: bool
    status: Literal["ok", "failed"]
    code: ErrorCode | None
    message: str
    remediation: str | None
    checked_at: datetime
    source: Literal["store"] = "store"
    board: BoardResponse | None
    account_health: AccountHealth
    retry_after_seconds: int | None = None

    @classmethod
    def from_rows(
        cls, board_id: str, account: Mapping[str, Any], board: Mapping[str, Any] | None
    ) -> "BoardAccessResponse":
        code, message, remediation = _check_access(board_id, account, board)
        return cls(
            account_id=account["id"],
            board_id=board_id,
            publishable=code is None,
            status="ok" if code is None else "failed",
            code=code,
            message=message,
            remediation=remediation,
            checked_at=datetime.now(UTC),
            board=None if board is None else BoardResponse.from_row(board),
            account_health=AccountHealth.model_validate(
                AccountResponse.from_row(account).model_dump(
                    include=set(AccountHealth.model_fields)
                )
            ),
        )


def _check_access(
    board_id: str, account: Mapping[str, Any], board: Mapping[str, Any] | None
) -> tuple[ErrorCode | None, str, str | None]:
    """Returns code, message and remediation. The checks have the same order as in publishing."""
    if account["revoked_at"] is not None:
        return (
            ErrorCode.ACCOUNT_REVOKED,
            "The account is revoked.",
            "Use another account, or ask the operator to restore this one.",
        )
    if board is None:
        advice = (
            f"Choose a board from GET /v1/pinterest/boards?account_id={account['id']}, or create "
            "one with POST /v1/pinterest/boards."
        )
        return ErrorCode.BOARD_NOT_FOUND, f"The account has no board {board_id}.", advice
    return None, "The account can publish to this board.", None
