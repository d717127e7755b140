"""Decides when tokens are refreshed, and what a failed refresh means for the connection. No I/O.

A connection is given up only if Pinterest refuses to refresh its tokens, or refuses new ones for an
hour. Even then the refresh is tried again every day while the refresh token is valid: the reason
may be the operator's app.
"""

from dataclasses import dataclass
from datetime import datetime

from services.access.connections.model import GrantType
from services.access.connections.vault import Tokens
from shared.access.connection_health import GIVEN_UP, HealthCode
from shared.pinterest.failures import Cause, Refused
from shared.pinterest.model import TokenGrant
from shared.runtime.backoff import backoff

FIRST_RETRY_SECONDS = 60.0
MAX_RETRY_SECONDS = 6 * 3600.0
DAY_SECONDS = 86_400.0
REFUSED_TOKEN_SECONDS = 3600.0
MIN_REFUSED_TOKENS = 5
"""A connection whose refreshes succeed is given up if Pinterest refused at least so many new access
tokens, over at least that time."""
MAX_SHARE_AHEAD = 0.9
"""A token is never refreshed before a tenth of its lifetime is over, whatever the setting says."""
PASSING_CAUSES = frozenset({Cause.RATE_LIMIT, Cause.SPAM_BLOCK})

REVOKED_MESSAGE = "Pinterest does not accept the account's tokens any more. Connect it again."
EXPIRED_MESSAGE = (
    "The account's tokens have expired, because they were not refreshed in time. Connect it again."
)
SCOPE_MESSAGE = (
    "Pinterest refused a request, because the account's user did not allow everything. Connect it "
    "again, and allow everything that is asked for."
)
UNAVAILABLE_MESSAGE = (
    "The account's tokens could not be refreshed, because Pinterest did not answer. Pinflow tries "
    "again."
)
REFUSED_MESSAGE = (
    "Pinterest refused to refresh the account's tokens, which have not expired yet. Pinflow tries "
    "again."
)

REFUSED_AGAIN_MESSAGE = (
    "Pinterest refused an access token that it had just issued for the account. Pinflow tries "
    "again with a new one."
)


@dataclass(frozen=True, slots=True)
class RefreshState:
    """The state of a connection when its refresh was refused."""

    now: datetime
    token_expires_at: datetime
    refresh_expires_at: datetime | None
    health_code: HealthCode | None
    failures: int
    """Consecutive failures before this one."""


@dataclass(frozen=True, slots=True)
class FailedRefresh:
    """A failed refresh, as it is stored."""

    health_code: HealthCode
    message: str
    retry_seconds: float | None
    """None: no refresh can succeed any more."""


def compute_refresh_delay(lifetime_seconds: float, ahead_seconds: float) -> float:
    """Returns the seconds after which a new access token is refreshed."""
    return lifetime_seconds - min(ahead_seconds, MAX_SHARE_AHEAD * lifetime_seconds)


def build_refresh_form(grant_type: GrantType, tokens: Tokens, scopes: str) -> dict[str, str] | None:
    """Builds the form that asks for new tokens. Returns None if there is no refresh token.

    The app owner's own account needs none: it asks with the app's id and secret alone.
    """
    if grant_type == "client_credentials":
        return {"grant_type": "client_credentials", "scope": scopes}
    if tokens.refresh_token is None:
        return None
    return {
        "grant_type": "refresh_token",
        "refresh_token": tokens.refresh_token.get_secret_value(),
    }


def merge_tokens(old: Tokens, grant: TokenGrant) -> Tokens:
    """Returns the tokens to store. Pinterest need not send a new refresh token."""
    return Tokens(grant.access_token, grant.refresh_token or old.refresh_token)


def is_verdict(refusal: Refused) -> bool:
    """Returns whether a refused refresh says that the tokens are invalid.

    An answer without Pinterest's error format came from something in between, and a limit passes.
    """
    return refusal.code is not None and refusal.cause not in PASSING_CAUSES


def plan_retry(failures: int, retry_after_seconds: int | None = None) -> float:
    """Returns the seconds until the next refresh or read of boards after a failure that passes."""
    seconds = backoff(failures, first=FIRST_RETRY_SECONDS, limit=MAX_RETRY_SECONDS)
    return max(seconds, retry_after_seconds or 0)


def judge_refused_refresh(state: RefreshState) -> FailedRefresh:
    """Decides what a refused refresh means for the connection."""
    if state.token_expires_at > state.now and state.health_code not in GIVEN_UP:
        retry = backoff(state.failures, first=FIRST_RETRY_SECONDS, limit=DAY_SECONDS)
        return FailedRefresh(HealthCode.REFRESH_FAILED, REFUSED_MESSAGE, retry)
    return give_up(state.now, state.refresh_expires_at)


def judge_refused_token(
    now: datetime,
    refused_since: datetime | None,
    tries: int,
    refresh_expires_at: datetime | None,
) -> FailedRefresh:
    """Decides what it means that Pinterest refused an access token that it had just issued.

    `refused_since` and `tries` are the earlier ones since the last token that was accepted.
    """
    seconds = 0.0 if refused_since is None else (now - refused_since).total_seconds()
    if seconds >= REFUSED_TOKEN_SECONDS and tries + 1 >= MIN_REFUSED_TOKENS:
        return give_up(now, refresh_expires_at)
    return FailedRefresh(HealthCode.REFRESH_FAILED, REFUSED_AGAIN_MESSAGE, plan_retry(tries))


def give_up(now: datetime, refresh_expires_at: datetime | None) -> FailedRefresh:
    """Decides what is stored if Pinterest accepts neither the access token nor a refresh."""
    if refresh_expires_at is not None and refresh_expires_at <= now:
        return FailedRefresh(HealthCode.TOKEN_EXPIRED, EXPIRED_MESSAGE, None)
    return FailedRefresh(HealthCode.TOKEN_REVOKED, REVOKED_MESSAGE, DAY_SECONDS)
