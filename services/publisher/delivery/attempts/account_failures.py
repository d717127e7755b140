"""Pauses accounts and the app if no attempt can begin: without a token, or without a quota."""

from uuid import UUID

import structlog

from services.publisher.delivery.accounts import pauses
from services.publisher.delivery.attempts.outcomes import PauseAccount
from services.publisher.delivery.attempts.repository import SettlementRepository
from services.publisher.delivery.budgets.rules import Exhausted
from services.publisher.delivery.tokens.failures import (
    AccessAway,
    AccountGivenUp,
    TokenUnavailable,
)
from shared.contract.errors import ApiError, ErrorCode, Unavailable

log = structlog.get_logger()


class AccountFailures:
    """Decides what pauses if there is no token or no quota, and writes the pauses."""

    def __init__(self, settlements: SettlementRepository) -> None:
        self._settlements = settlements

    async def pause_without_token(self, account_id: UUID, failure: ApiError | Unavailable) -> None:
        """Pauses the account if the access service has given it up or it has to wait.

        Pauses all accounts if the access service can't be reached.
        """
        match failure:
            case AccountGivenUp():
                await pause_given_up(self._settlements, account_id, failure)
            case TokenUnavailable():
                log.warning("token_unavailable", account_id=str(account_id), error=str(failure))
                meaning = PauseAccount(pauses.PauseCause.TOKEN_WAIT)
                await self._settlements.pause_account(account_id, meaning)
            case AccessAway():
                log.warning("access_away", account_id=str(account_id), error=str(failure))
                await self._settlements.pause_app(pauses.PauseCause.NO_TOKENS)
            case _:
                raise failure

    async def pause_quota(self, account_id: UUID, exhausted: Exhausted) -> None:
        """Pauses the account, or the app, until the next day of its quota begins."""
        if exhausted.is_app:
            await self._settlements.pause_app(pauses.PauseCause.DAILY_WRITES, exhausted.seconds)
        else:
            meaning = PauseAccount(pauses.PauseCause.DAILY_PINS, exhausted.seconds)
            await self._settlements.pause_account(account_id, meaning)


async def pause_given_up(
    settlements: SettlementRepository, account_id: UUID, failure: AccountGivenUp
) -> None:
    """Pauses an account to which the access service hands out no token any more."""
    is_expired = failure.code is ErrorCode.TOKEN_EXPIRED
    code = ErrorCode.TOKEN_EXPIRED if is_expired else ErrorCode.ACCOUNT_REVOKED
    await settlements.pause_given_up_account(account_id, code, failure.message)
