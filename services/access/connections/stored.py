"""Defines connections and their tokens as they are stored. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from services.access.connections.model import Connection, GrantType
from shared.access.connection_health import HealthCode
from shared.postgres.row import Row

_CONNECTION_FIELDS = tuple(field.name for field in fields(Connection))


@dataclass(frozen=True, slots=True)
class OpenedConnection:
    """A connection with its tokens, which are still encrypted. None: it is disconnected."""

    connection: Connection
    secret: bytes | None
    now: datetime
    is_refused: bool
    """Pinterest refused the last new access token, and has accepted none since."""
    is_refusal_recent: bool
    """True if that was the present token, and the next refresh is planned."""


@dataclass(frozen=True, slots=True)
class RefreshClaim:
    """The right to refresh the tokens of one connection, until its lease is over."""

    account_id: UUID
    version: int
    fence: int
    secret: bytes
    failures: int
    connected_at: datetime
    grant_type: GrantType
    scopes: tuple[str, ...]
    claimed_at: float
    """The monotonic clock's time just before the lease was taken."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The last refresh of a connection, by any process."""

    version: int
    fence: int
    is_taken: bool
    """A refresh is in flight, or its process died and its time is not over."""
    is_ended: bool
    """The last refresh ended: it stored tokens, or failed."""
    health_code: HealthCode | None
    health_message: str | None


@dataclass(frozen=True, slots=True)
class SealedTokens:
    key_id: str
    secret: bytes
    refresh_seconds: float


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    expiring: int
    reconnect_required: int
    unreadable: int


def to_optional_connection(row: RowMapping | None) -> Connection | None:
    return None if row is None else to_connection(dict(row))


def to_connection(row: Mapping[str, Any]) -> Connection:
    values = {name: row[name] for name in _CONNECTION_FIELDS}
    values["scopes"] = tuple(row["scopes"])
    values["health_code"] = to_health_code(row["health_code"])
    return Connection(**values)


def to_claim(row: Row, claimed_at: float) -> RefreshClaim:
    return RefreshClaim(
        account_id=row["account_id"],
        version=row["version"],
        fence=row["lease_fence"],
        secret=row["secret"],
        failures=row["refresh_failures"],
        connected_at=row["connected_at"],
        grant_type=row["grant_type"],
        scopes=tuple(row["scopes"]),
        claimed_at=claimed_at,
    )


def to_health_code(value: str | None) -> HealthCode | None:
    return None if value is None else HealthCode(value)


def to_values(codes: Iterable[HealthCode]) -> list[str]:
    return [code.value for code in codes]
