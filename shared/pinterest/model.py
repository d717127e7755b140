"""Defines what Pinterest's token endpoint answers."""

from dataclasses import dataclass

from pydantic import SecretStr


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
