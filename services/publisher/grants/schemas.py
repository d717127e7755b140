"""Defines the internal HTTP models of grants."""

from typing import Literal
from uuid import UUID

from shared.http.models import ApiModel
from shared.pinterest.model import Category


class GrantRequest(ApiModel):
    """The access service wants to send one request to Pinterest."""

    mode: Literal["simulated", "sandbox", "production"]
    account_id: UUID
    category: Category


class Grant(ApiModel):
    """0: the request may be sent, and counts. More: it may not, and does not count."""

    wait_seconds: float
