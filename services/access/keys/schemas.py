"""Defines the HTTP models of API keys."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.access.text_fields import NOT_BLANK, require_any_of, require_text
from shared.access.keys import Scope
from shared.access.usage import MAX_REPORTED_KEYS
from shared.http.fields import CreatedAt, RevokedAt, WorkspaceId
from shared.http.models import ApiModel


def _in_order(scopes: list[Scope]) -> list[Scope]:
    return [scope for scope in Scope if scope in scopes]


def _distinct(account_ids: list[UUID]) -> list[UUID]:
    return list(dict.fromkeys(account_ids))


Name = Annotated[str, StringConstraints(max_length=255), AfterValidator(require_text), NOT_BLANK]
Scopes = Annotated[list[Scope], Field(min_length=1), AfterValidator(_in_order)]
AccountIds = Annotated[list[UUID], Field(min_length=1), AfterValidator(_distinct)]
"""A list with at least one account. An empty list could mean all accounts or none."""


class ApiKeyCreate(ApiModel):
    """A new API key. Unknown fields are refused."""

    # A misspelled pinterest_account_ids must not create a key for all accounts
    model_config = ConfigDict(extra="forbid")

    name: Name
    """A name by which people recognize the key: 1 to 255 characters, not blank."""
    scopes: Scopes | None = None
    """The scopes of the key. Null or absent: `read` and `write`."""
    pinterest_account_ids: AccountIds | None = None
    """The accounts that the key may read and publish to. Null or absent: all."""


class ApiKeyUpdate(ApiModel):
    """Changes of an API key: at least one field. Unknown fields are refused.

    Fields that are absent or null do not change. The exception is `pinterest_account_ids`: null
    allows all accounts.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=require_any_of("name", "scopes", or_null="pinterest_account_ids"),
    )

    name: Name | None = None
    """The new name: 1 to 255 characters, not blank."""
    scopes: Scopes | None = None
    """The new scopes of the key."""
    pinterest_account_ids: AccountIds | None = None
    """The accounts that the key may read and publish to from now on. Null: all."""

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


KeyId = Annotated[UUID, Field(description="The key's id. It is no secret.")]
KeyName = Annotated[str, Field(description="The name by which people recognize the key.")]
KeyScopes = Annotated[list[Scope], Field(description="The scopes of the key.")]
KeyAccountIds = Annotated[
    list[UUID] | None,
    Field(description="The accounts that the key may read and publish to. Null: all."),
]
KeyPrefix = Annotated[str, Field(description="The key's first characters. They are no secret.")]


class ApiKeyResponse(ApiModel):
    """An API key, without the key itself."""

    id: KeyId
    workspace_id: WorkspaceId
    name: KeyName
    scopes: KeyScopes
    pinterest_account_ids: KeyAccountIds
    source: Literal["manual"] = "manual"
    """The origin of the key. Always `manual`: Pinflow has no other one."""
    client_name: str | None = None
    """The OAuth client that got the key. Always null."""
    authorized_by_email: str | None = None
    """The address of the person who authorized the OAuth client. Always null."""
    last_used_at: datetime | None
    """When the key was last used, in UTC, accurate to a minute or two. Null if never."""
    created_at: CreatedAt
    revoked_at: RevokedAt
    prefix: KeyPrefix

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ApiKeyResponse":
        return cls(**row, pinterest_account_ids=row["account_ids"])


class ApiKeyCreateResponse(ApiModel):
    """A new API key. No other response contains the key itself."""

    id: KeyId
    workspace_id: WorkspaceId
    name: KeyName
    api_key: str
    """The key itself. Store it now: Pinflow keeps only its hash."""
    scopes: KeyScopes
    pinterest_account_ids: KeyAccountIds
    created_at: CreatedAt
    prefix: KeyPrefix

    @classmethod
    def from_row(cls, row: Mapping[str, Any], api_key: str) -> "ApiKeyCreateResponse":
        return cls(**row, pinterest_account_ids=row["account_ids"], api_key=api_key)


class KeyUsageReport(ApiModel):
    """Keys that another service has seen in requests."""

    key_ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_REPORTED_KEYS)]
