"""Defines connections of accounts to Pinterest. No I/O."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, auto
from typing import Literal
from uuid import UUID

from shared.contract.errors import PinflowError
from shared.pinterest.model import TokenGrant

GrantType = Literal["authorization_code", "client_credentials"]


class HealthCode(StrEnum):
    """Reasons why a connection does not work, or not completely (column health_code)."""

    TOKEN_REVOKED = auto()
    """Pinterest refuses the tokens: the user has to connect the account again."""
    TOKEN_EXPIRED = auto()
    """The refresh token has expired: the user has to connect the account again."""
    SCOPE_MISSING = auto()
    """Pinterest refused a call because the user did not allow all rights."""
    REFRESH_FAILED = auto()
    """The last refresh failed. The connection still works (health status `degraded`)."""


@dataclass(frozen=True, slots=True)
class PinterestUser:
    """The user whose account is connected, from GET /user_account."""

    id: str
    username: str


@dataclass(frozen=True, slots=True)
class NewConnection:
    """A grant to store. With `account_id`, this account is connected; otherwise the one that
    already belongs to the Pinterest user, or a new one."""

    workspace_id: UUID
    account_id: UUID | None
    grant: TokenGrant
    user: PinterestUser
    grant_type: GrantType


@dataclass(frozen=True, slots=True)
class Connection:
    """A row of access.connections: an account that is or was connected."""

    account_id: UUID
    workspace_id: UUID
    mode: str
    pinterest_user_id: str
    grant_type: GrantType
    scopes: tuple[str, ...]
    token_version: int
    token_expires_at: datetime
    refresh_expires_at: datetime | None
    connected_at: datetime
    disconnected_at: datetime | None
    health_code: HealthCode | None
    health_message: str | None
    checked_at: datetime | None

    @property
    def is_connected(self) -> bool:
        """True while the connection has tokens. They may have been refused (health_code)."""
        return self.disconnected_at is None


class NotConnected(PinflowError):
    """The account is not connected to Pinterest: it never was, or it was disconnected."""


class PinterestOff(PinflowError):
    """PINFLOW_PINTEREST_MODE is off: nothing can be sent to Pinterest."""


class AccountMismatch(PinflowError):
    """The grant belongs to another Pinterest user than the account."""
