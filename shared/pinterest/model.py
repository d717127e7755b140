"""Defines categories of requests to Pinterest, tokens, and Pinterest's counts of requests."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pydantic import SecretStr


class Category(StrEnum):
    """Pinterest's categories of requests. The requests of one category share a rate limit."""

    WRITE = "org_write"
    READ = "org_read"


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """Tokens that Pinterest issued. The times count from the answer."""

    access_token: SecretStr
    expires_in: int
    """Seconds until the access token expires."""
    scopes: tuple[str, ...]
    refresh_token: SecretStr | None = None
    """None for client_credentials, which asks for a new access token instead."""
    refresh_expires_in: int | None = None
    """Seconds until the refresh token expires."""


class RateLimits(NamedTuple):
    """Pinterest's count of the requests of one account and category (x-ratelimit-*)."""

    remaining: int
    """The requests that are left."""
    reset_seconds: int | None
    """Seconds until there are more. None: Pinterest did not say."""
