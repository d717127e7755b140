"""Defines the HTTP models of API keys."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.access.text_fields import NOT_BLANK, require_any_of, require_text
from shared.access.keys import Scope
from shared.access.usage import MAX_REPORTED_KEYS


def _in_order(scopes: list[Scope]) -> list[Scope]:
    return [scope for scope in Scope if scope in scopes]


def _distinct(account_ids: list[UUID]) -> list[UUID]:
    return list(dict.fromkeys(account_ids))


_Scope = Annotated[
    Scope, WithJsonSchema({"type": "string", "enum": [scope.value for scope in Scope]})
]

Name = Annotated[str, StringConstraints(max_length=255), AfterValidator(require_text), NOT_BLANK]
Scopes = Annotated[list[_Scope], Field(min_length=1), AfterValidator(_in_order)]
AccountIds = Annotated[list[UUID], Field(min_length=1), AfterValidator(_distinct)]
"""A list with at least one account. An empty list could mean all accounts or none."""


class ApiKeyCreate(BaseModel):
    # A misspelled pinterest_account_ids must not create a key for all accounts
    model_config = ConfigDict(extra="forbid")

    name: Name
    scopes: Scopes | None = Field(None, description="Default: read and write.")
    pinterest_account_ids: AccountIds | None = Field(
        None, description="The accounts that the key may read and publish to. Default: all."
    )


class ApiKeyUpdate(BaseModel):
    """Fields that are absent or null do not change.

    The exception is `pinterest_account_ids`: null allows all accounts.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=require_any_of("name", "scopes", or_null="pinterest_account_ids"),
    )

    name: Name | None = None
    scopes: Scopes | None = None
    pinterest_account_ids: AccountIds | None = None

    @model_validator(mode="after")
    def _require_a_change(self) -> "ApiKeyUpdate":
        if not self.changes():
            raise PydanticCustomError(
                "no_change", "Provide at least one of name, scopes or pinterest_account_ids"
            )
        return self

    def changes(self) -> dict[str, Any]:
        """Returns the changed columns and their values."""
        changes: dict[str, Any] = {"name": self.name} if self.name is not None else {}
        if self.scopes is not None:
            changes["scopes"] = [scope.value for scope in self.scopes]
        if "pinterest_account_ids" in self.model_fields_set:
            changes["account_ids"] = self.pinterest_account_ids
        return changes


class ApiKeyResponse(BaseModel):
    id: UUID
    workspace_id: UUID
    name: str
    scopes: list[Scope]
    pinterest_account_ids: list[UUID] | None
    source: Literal["manual"] = "manual"
    client_name: str | None = None
    authorized_by_email: str | None = None
    last_used_at: datetime | None
    created_at: datetime
    revoked_at: datetime | None
    prefix: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ApiKeyResponse":
        return cls(**row, pinterest_account_ids=row["account_ids"])


class ApiKeyCreateResponse(BaseModel):
    id: UUID
    workspace_id: UUID
    name: str
    api_key: str
    scopes: list[Scope]
    pinterest_account_ids: list[UUID] | None
    created_at: datetime
    prefix: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any], api_key: str) -> "ApiKeyCreateResponse":
        return cls(**row, pinterest_account_ids=row["account_ids"], api_key=api_key)


class KeyUsageReport(BaseModel):
    key_ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_REPORTED_KEYS)]
