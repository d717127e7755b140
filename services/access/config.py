"""Defines the settings of the access service."""

from typing import Annotated

from pydantic import Field

from shared.runtime.settings import ServiceSettings


class AccessSettings(ServiceSettings):
    access_body_limit: Annotated[int, Field(ge=1024)] = 64 * 1024
    """Maximum bytes of the body of a request that creates or changes a key or a board."""
    max_access_changes: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Maximum concurrent requests that create or change keys or boards.

    Requests that wait for a database connection count. Further requests get 429 at once.
    """
    max_api_keys: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Maximum API keys of one workspace. Revoked keys do not count.

    Keys that an operator creates count, but the limit does not prevent their creation.
    """
    max_boards_per_account: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """Maximum boards of one account. Pinterest has the same limit. One answer lists all of them."""
