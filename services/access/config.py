"""Defines the settings of the access service."""

from typing import Annotated

from pydantic import Field

from shared.pinterest.settings import PinterestSettings
from shared.runtime.settings import ServiceSettings


class AccessSettings(PinterestSettings, ServiceSettings):
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
    pinterest_redirect_url: str = ""
    """The URL to which Pinterest sends a user back, exactly as the app has it at Pinterest. Empty:
    PINFLOW_BASE_URL followed by /v1/pinterest/oauth/callback."""
    pinterest_return_url: str = ""
    """The page to which a browser is sent after an account was connected, or could not be. The
    parameters `status`, `account_id` and `code` are added. Empty: a page of Pinflow."""
    pinterest_scopes: str = "boards:read,boards:write,pins:read,pins:write,user_accounts:read"
    """The rights that Pinflow asks for, separated by commas. Add boards:read_secret,
    boards:write_secret, pins:read_secret and pins:write_secret for secret boards."""
    pinterest_consent_seconds: Annotated[int, Field(ge=60, le=86_400)] = 900
    """The seconds that a user has to allow the access, from the start of a connection."""
    pinterest_refresh_days: Annotated[float, Field(gt=0, le=25)] = 7
    """The days before its expiry at which an access token is refreshed."""
    pinterest_boards_minutes: Annotated[float, Field(ge=1, le=10_080)] = 60
    """The minutes between two reads of a connected account's boards."""
