"""Defines the internal HTTP models of connections."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, SecretStr, field_serializer

from services.access.connections.handout import HandedToken
from shared.http.models import ApiModel

TokenVersion = Annotated[int, Field(ge=1, lt=2**63)]


class TokenRequest(ApiModel):
    """A process that calls Pinterest needs the account's access token."""

    account_id: UUID


class TokenRefresh(ApiModel):
    """Pinterest refused the access token of this version."""

    account_id: UUID
    token_version: TokenVersion
    is_new: bool = False
    """The token was the answer of an earlier request for a refresh, just now."""


class AccountToken(ApiModel):
    """An access token that can be used. Only its JSON shows it: a log that prints it does not."""

    access_token: SecretStr
    token_version: int
    token_expires_at: datetime
    mode: str

    @field_serializer("access_token", when_used="json")
    def _show_token(self, token: SecretStr) -> str:
        return token.get_secret_value()

    @classmethod
    def of(cls, token: HandedToken) -> Self:
        return cls(
            access_token=token.value,
            token_version=token.version,
            token_expires_at=token.expires_at,
            mode=token.mode,
        )


class HealthReport(ApiModel):
    """Pinterest refused a call with the access token of this version."""

    account_id: UUID
    token_version: TokenVersion
    code: Literal["scope_missing"]


class HealthNote(ApiModel):
    """Says whether the account's health has it now. False: the app lacks the right."""

    is_noted: bool
