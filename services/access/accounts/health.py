"""Judges an account's health by its row and its connection. Does no I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from shared.access.connection_health import RECONNECT_CODES

SCOPES_WITHOUT_CONNECTION = "boards:read,pins:read,pins:write"
"""The rights that PinBridge's clients expect of an account that can publish."""


class HealthStatus(StrEnum):
    """The health of an account."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """The account works, but the last refresh or the last read of its boards failed."""
    RECONNECT_REQUIRED = "reconnect_required"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ConnectionPolicy:
    """The mode and the rights that the settings ask for."""

    mode: str
    """The mode to which connections belong now."""
    scopes: tuple[str, ...]
    """The rights that Pinflow asks for."""

    def find_missing(self, granted: Collection[str]) -> list[str]:
        return [scope for scope in self.scopes if scope not in granted]


@dataclass(frozen=True, slots=True)
class JudgedHealth:
    status: HealthStatus
    message: str | None = None
    missing_scopes: tuple[str, ...] = ()

    @property
    def is_reconnect_required(self) -> bool:
        return self.status in {HealthStatus.RECONNECT_REQUIRED, HealthStatus.REVOKED}


def judge_health(account: Mapping[str, Any], policy: ConnectionPolicy) -> JudgedHealth:
    """Judges an account's row, which has its connection, or None, under `connection`."""
    connection = account["connection"]
    if account["revoked_at"] is not None:
        message = None if connection is None else describe_disconnection(account["id"])
        return JudgedHealth(HealthStatus.REVOKED, message)
    if connection is None:
        return JudgedHealth(HealthStatus.HEALTHY)
    missing = tuple(policy.find_missing(connection["scopes"]))
    if problem := _find_reconnect_reason(account["id"], connection, policy):
        return JudgedHealth(HealthStatus.RECONNECT_REQUIRED, problem, missing)
    if problem := connection["health_message"] or connection["boards_message"]:
        return JudgedHealth(HealthStatus.DEGRADED, problem, missing)
    message = (
        f"The account lacks these rights: {', '.join(missing)}. Connect it again to allow them."
        if missing
        else None
    )
    return JudgedHealth(HealthStatus.HEALTHY, message, missing)


def advise_to_reconnect(account_id: UUID) -> str:
    return f"Connect it again: GET /v1/pinterest/oauth/start?account_id={account_id}"


def _find_reconnect_reason(
    account_id: UUID, connection: Mapping[str, Any], policy: ConnectionPolicy
) -> str | None:
    if connection["disconnected_at"] is not None:
        return describe_disconnection(account_id)
    if connection["mode"] != policy.mode:
        return (
            f"The account was connected in the mode {connection['mode']}, but this installation "
            f"is in the mode {policy.mode}. {advise_to_reconnect(account_id)}"
        )
    if connection["health_code"] in RECONNECT_CODES:
        return str(connection["health_message"])
    return None


def describe_disconnection(account_id: UUID) -> str:
    return f"The account is disconnected. {advise_to_reconnect(account_id)}"
