"""Defines the settings of the access service."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from shared.contract.urls import require_http_url
from shared.pinterest.settings import PinterestSettings
from shared.runtime.settings import PublisherUrlSettings, ServiceSettings

CALLBACK_PATH = "/v1/pinterest/oauth/callback"


def _require_url_or_nothing(url: str) -> str:
    return require_http_url(url) if url else url


OptionalUrl = Annotated[str, AfterValidator(_require_url_or_nothing)]


class AccessSettings(PinterestSettings, ServiceSettings, PublisherUrlSettings):
    access_body_limit: Annotated[int, Field(ge=1024)] = 64 * 1024
    """Maximum bytes of the body of a request that creates or changes a key or a board."""
    max_access_changes: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Maximum concurrent requests that create or change keys, and as many that create or change
    boards.

    Requests that wait for a database connection, or for Pinterest, count. Further requests get 429
    at once.
    """
    max_api_keys: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Maximum API keys of one workspace. Revoked keys do not count.

    Keys that an operator creates count, but the limit does not prevent their creation.
    """
    max_boards_per_account: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """Maximum boards of one account. Pinterest has the same limit. One answer lists all of them."""
    pinterest_redirect_url: OptionalUrl = ""
    """The URL to which Pinterest sends a user back, exactly as the app has it at Pinterest. Empty:
    PINFLOW_BASE_URL followed by /v1/pinterest/oauth/callback."""
    pinterest_return_url: OptionalUrl = ""
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

    @property
    def redirect_url(self) -> str:
        """The address of the callback. It never depends on a request."""
        return self.pinterest_redirect_url or f"{self.base_url.rstrip('/')}{CALLBACK_PATH}"

    @property
    def asked_scopes(self) -> tuple[str, ...]:
        return tuple(self.pinterest_scopes.replace(",", " ").split())

    @model_validator(mode="after")
    def _require_scopes(self) -> Self:
        if self.is_pinterest_on and "user_accounts:read" not in self.asked_scopes:
            raise ValueError(
                "PINFLOW_PINTEREST_SCOPES lacks user_accounts:read, without which Pinflow can't "
                "see whose account it is"
            )
        return self
