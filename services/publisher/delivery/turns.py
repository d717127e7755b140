"""Serves one account: each part does at most one piece of its work, in the order of the parts."""

from collections.abc import Sequence

import structlog

from services.publisher.delivery.model import AccountLease, FinishedTurn
from services.publisher.delivery.ports import Postponed, TurnPart
from shared.contract.errors import Unavailable

log = structlog.get_logger()

IDLE_SECONDS = 1.0
"""The rest of an account for which nothing could be done, for example because a user cancelled its
pin. The search would otherwise find it again at once."""
FAILURE_SECONDS = 5.0
"""The rest of an account after an unexpected error."""
MAX_REST_SECONDS = 60.0
"""After this an account is looked at again. The list of deliveries shows longer waits as pauses."""


class Turn:
    """Runs the parts of the delivery process for one leased account."""

    def __init__(self, parts: Sequence[tuple[str, TurnPart]], spacing_seconds: float) -> None:
        """Takes the names of work and the parts that do it, in order.

        The last one creates pins: after it, spacing applies.
        """
        self._parts = parts
        self._spacing_seconds = spacing_seconds

    async def run(self, lease: AccountLease) -> FinishedTurn:
        """Runs the turn. Never raises, except if it is canceled."""
        did_work, created = False, False
        waits: list[float] = []
        try:
            for name, part in self._parts:
                created = False
                if lease.work and name not in lease.work:
                    continue
                try:
                    created = await part.run(lease)
                except Postponed as postponed:
                    waits.append(postponed.seconds)
                did_work = did_work or created
        except Unavailable as error:
            log.warning("turn_postponed", account_id=lease.account_id, error=str(error))
            return FinishedTurn(lease, did_work, FAILURE_SECONDS)
        except Exception:
            log.exception(
                "turn_failed", account_id=lease.account_id, workspace_id=lease.workspace_id
            )
            return FinishedTurn(lease, did_work, FAILURE_SECONDS)
        return FinishedTurn(lease, did_work, self._compute_rest(did_work, created, waits))

    def _compute_rest(self, did_work: bool, created: bool, waits: Sequence[float]) -> float:
        if created:
            return self._spacing_seconds
        if did_work:
            return 0.0
        return min([*waits, MAX_REST_SECONDS]) if waits else IDLE_SECONDS
