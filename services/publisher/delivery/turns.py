"""Serves one account: each part does at most one piece of its work, in the order of the parts."""

from collections.abc import Sequence

import structlog

from services.publisher.delivery.model import (
    MAX_REST_SECONDS,
    AccountLease,
    FinishedTurn,
    Postponed,
)
from services.publisher.delivery.ports import TurnPart
from shared.contract.errors import Unavailable

log = structlog.get_logger()

IDLE_SECONDS = 1.0
"""The rest of an account for which nothing could be done, for example because a user canceled its
pin. The search would otherwise find it again at once."""
FAILURE_SECONDS = 5.0
"""The rest of an account after an unexpected error."""


class Turn:
    """Runs the parts of the delivery process for one leased account."""

    def __init__(self, parts: Sequence[tuple[str, TurnPart]], spacing_seconds: float) -> None:
        """Runs `parts` in this order. Each has the name of its work (AccountLease.work).

        The last part creates pins. After it has created one, the account rests for
        `spacing_seconds`.
        """
        self._parts = parts
        self._spacing_seconds = spacing_seconds

    async def run(self, lease: AccountLease) -> FinishedTurn:
        """Runs the turn. Never raises, except if it is canceled."""
        active: list[str] = []
        waits: list[float] = []
        try:
            for name, part in self._parts:
                if lease.work and name not in lease.work:
                    continue
                try:
                    if await part.run(lease):
                        active.append(name)
                except Postponed as postponed:
                    waits.append(postponed.seconds)
        except Unavailable as error:
            log.warning("turn_postponed", account_id=lease.account_id, error=str(error))
            return FinishedTurn(lease, bool(active), FAILURE_SECONDS)
        except Exception:
            log.exception(
                "turn_failed", account_id=lease.account_id, workspace_id=lease.workspace_id
            )
            return FinishedTurn(lease, bool(active), FAILURE_SECONDS)
        return FinishedTurn(lease, bool(active), self._compute_rest(active, waits))

    def _compute_rest(self, active: Sequence[str], waits: Sequence[float]) -> float:
        """Returns the seconds until the account may be served again.

        `active` names the parts that did something. `waits` are the seconds of those that may not
        begin yet.
        """
        last_part, _ = self._parts[-1]
        if last_part in active:
            return self._spacing_seconds
        if active:
            return 0.0
        return min([*waits, MAX_REST_SECONDS]) if waits else IDLE_SECONDS
