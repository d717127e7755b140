"""Pauses an account or the app after a failed call that is not about creating a pin."""

from uuid import UUID

from services.publisher.delivery.attempts.account_failures import pause_given_up
from services.publisher.delivery.attempts.outcomes import (
    PauseAccount,
    PauseApp,
    PinHistory,
    decide_failure,
)
from services.publisher.delivery.attempts.repository import SettlementRepository
from services.publisher.delivery.tokens.failures import AccountGivenUp
from shared.pinterest.failures import NotSent, Refused

AFTER_REFRESH = PinHistory(is_refreshed=True)
"""Callers refresh a refused token once by themselves."""


class CallFailures:
    """Judges failures as those of pins are judged (outcomes.py), without an attempt."""

    def __init__(self, settlements: SettlementRepository) -> None:
        self._settlements = settlements

    async def pause(self, account_id: UUID, failure: Refused | NotSent | AccountGivenUp) -> None:
        """Pauses the account or the app if the failure concerns it. The account has a lease."""
        if isinstance(failure, AccountGivenUp):
            await pause_given_up(self._settlements, account_id, failure)
            return
        match decide_failure(failure, AFTER_REFRESH, 1):
            case PauseAccount() as meaning:
                await self._settlements.pause_account(account_id, meaning)
            case PauseApp(cause):
                await self._settlements.pause_app(cause)
            case _:
                pass  # it concerns the video or the pin alone
