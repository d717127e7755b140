"""Defines the settings of the access service."""

from typing import Annotated

from pydantic import Field

from shared.runtime.settings import ServiceSettings


class AccessSettings(ServiceSettings):
    access_body_limit: Annotated[int, Field(ge=1024)] = 64 * 1024
    """Bytes of what is sent to POST /v1/api-keys or /v1/pinterest/boards."""
    max_access_changes: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Requests that make or change keys or boards, in work or waiting for a connection.

    Beyond it, 429 at once.
    """
    max_api_keys: Annotated[int, Field(ge=1, le=100_000)] = 100
    """API keys of one workspace that are not revoked.

    Keys that an operator makes count, and are not held up.
    """
    max_boards_per_account: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """As many as Pinterest lets an account have. They are listed in one answer."""
