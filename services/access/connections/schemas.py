"""Defines the internal HTTP models of connections."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from shared.http.models import ApiModel


class TokenRefresh(ApiModel):
    """Pinterest refused the access token of this version."""

    account_id: UUID
    token_version: Annotated[int, Field(ge=1, lt=2**63)]


class TokenState(ApiModel):
    """The tokens that are stored now. They themselves are never in an answer."""

    token_version: int
    token_expires_at: datetime
