"""Defines connections of accounts to Pinterest. No I/O."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.access.connection_health import HealthCode
from shared.contract.errors import PinflowError
from shared.pinterest.model import TokenGrant

GrantType = Literal["authorization_code", "client_credentials"]


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
    """The account is not connected to Pinterest: never, not any more, or only in another mode."""

    def __init__(
        self, account_id: UUID, reason: str = "The account is not connected to Pinterest."
    ) -> None:
        super().__init__(
            f"{reason} Connect it with GET /v1/pinterest/oauth/start?account_id={account_id}."
        )


class PinterestOff(PinflowError):
    """PINFLOW_PINTEREST_MODE is off: nothing can be sent to Pinterest."""


class AccountMismatch(PinflowError):
    """The grant belongs to another Pinterest user than the account."""


class GivenUp(PinflowError):
    """Pinterest accepts the account's tokens no more. `code` is the one of its health."""

    def __init__(self, code: HealthCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
