"""Defines the health of a connection to Pinterest: the values of access.connections.health_code."""

from enum import StrEnum, auto


class HealthCode(StrEnum):
    """Reasons why a connection does not work, or not completely."""

    TOKEN_REVOKED = auto()
    """Pinterest refuses the tokens: the user has to connect the account again."""
    TOKEN_EXPIRED = auto()
    """The refresh token has expired: the user has to connect the account again."""
    SCOPE_MISSING = auto()
    """Pinterest refused a call because the user did not allow all rights."""
    REFRESH_FAILED = auto()
    """The last refresh failed. The connection still works (health status `degraded`)."""


GIVEN_UP = frozenset({HealthCode.TOKEN_REVOKED, HealthCode.TOKEN_EXPIRED})
"""The connection is not used for calls, until a refresh succeeds or its user connects it again."""
RECONNECT_CODES = GIVEN_UP | {HealthCode.SCOPE_MISSING}
"""Only the account's user can mend the connection."""
