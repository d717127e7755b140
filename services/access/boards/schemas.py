"""Defines the HTTP models of boards."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    ConfigDict,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.access.accounts.health import ConnectionPolicy
from services.access.accounts.schemas import AccountHealth
from services.access.boards.access_check import AccessFinding, Source
from services.access.text_fields import (
    NOT_BLANK,
    WITHOUT_NUL,
    require_any_of,
    require_storable,
    require_text,
)
from shared.contract.errors import ErrorCode
from shared.http.models import ApiModel

Privacy = Literal["PUBLIC", "PROTECTED", "SECRET"]
BoardName = Annotated[
    str, StringConstraints(max_length=180), AfterValidator(require_text), NOT_BLANK
]
Description = Annotated[
    str, StringConstraints(max_length=500), AfterValidator(require_storable), WITHOUT_NUL
]
"""Text of a board's description. Pinterest has the same maximum length."""


class BoardResponse(ApiModel):
    """A board of a Pinterest account."""

    id: str
    """The board's id: the `board_id` of rows, pins and schedules."""
    name: str
    """The board's name, 1 to 180 characters."""
    description: str | None
    """The board's description, at most 500 characters. Null if it has none."""
    privacy: str | None
    """`PUBLIC`, `PROTECTED` or `SECRET`. Null if unknown."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "BoardResponse":
        return cls(
            id=row["board_id"],
            name=row["name"],
            description=row["description"],
            privacy=row["privacy"],
        )


class BoardCreate(ApiModel):
    """A new board."""

    account_id: UUID
    """The account that will own the board."""
    name: BoardName
    """The board's name, 1 to 180 characters and not blank. Boards may share a name, as far as
    Pinterest lets them."""
    description: Description | None = None
    """The board's description, at most 500 characters. Null or empty: none."""
    privacy: Privacy | None = None
    """The board's visibility. Null or absent: `PUBLIC`."""

    def values(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description or None,
            "privacy": self.privacy or "PUBLIC",
        }


class BoardUpdate(ApiModel):
    """Changes of a board: at least one of name, description and privacy.

    Fields that are absent or null do not change.
    """

    model_config = ConfigDict(json_schema_extra=require_any_of("name", "description", "privacy"))

    account_id: UUID
    """The account that owns the board."""
    name: BoardName | None = None
    """The new name, 1 to 180 characters and not blank."""
    description: Description | None = None
    """The new description, at most 500 characters. Empty: the description is removed."""
    privacy: Privacy | None = None
    """The new visibility. A board of a connected account can't become `PROTECTED`."""

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


class BoardAccessResponse(ApiModel):
    """The result of a check whether pins can be published to a board."""

    account_id: UUID
    """The account that was asked for."""
    board_id: str
    """The board that was asked for."""
    publishable: bool
    """True if pins can be published to the board."""
    status: Literal["ok", "failed"]
    """`ok` if pins can be published to the board, otherwise `failed`."""
    code: ErrorCode | None
    """The reason why nothing can be published. Null if pins can be published."""
    message: str
    """The result of the check in words."""
    remediation: str | None
    """The next step to take. Null if pins can be published."""
    checked_at: datetime
    """When the check was made, in UTC."""
    source: Source
    """`pinterest` if Pinterest was asked, which is so for connected accounts. `store`: the answer
    is from Pinflow's database, because the account has no connection or is revoked, or because
    Pinterest has no boards with such an id."""
    board: BoardResponse | None
    """The board. Null if the account has no such board."""
    account_health: AccountHealth
    """The health of the account."""
    retry_after_seconds: int | None
    """When to check again, if Pinterest does not answer or takes no more requests now. Otherwise
    null: the answer changes only if the account or the board does."""

    @classmethod
    def from_rows(
        cls,
        board_id: str,
        account: Mapping[str, Any],
        board: Mapping[str, Any] | None,
        finding: AccessFinding,
        policy: ConnectionPolicy,
    ) -> "BoardAccessResponse":
        return cls(
            account_id=account["id"],
            board_id=board_id,
            publishable=finding.code is None,
            status="ok" if finding.code is None else "failed",
            code=finding.code,
            message=finding.message,
            remediation=finding.remediation,
            checked_at=datetime.now(UTC),
            source=finding.source,
            retry_after_seconds=finding.retry_after_seconds,
            board=None if board is None else BoardResponse.from_row(board),
            account_health=AccountHealth.from_row(account, policy),
        )
