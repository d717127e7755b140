"""Asks the publisher before each call to Pinterest: it keeps the budgets of all requests.

Deliveries and calls of the access service share Pinterest's limits. If the publisher does not
answer, the call goes through: an account must be connected and used without it.
"""

import math
from http import HTTPStatus
from uuid import UUID

import structlog

from shared.contract.errors import ApiError
from shared.http.internal_calls import InternalCalls
from shared.pinterest.failures import Cause, Refused
from shared.pinterest.model import Category

log = structlog.get_logger()

GRANT_SECONDS = 1.0
"""Maximum time that a call waits for the publisher's answer."""


class BudgetUsedUp(Refused):
    """The call was not sent, because the budget of the account or of the app is used up."""

    def __init__(self, operation: str, seconds: float) -> None:
        super().__init__(
            operation,
            "The budget of requests to Pinterest is used up.",
            status=HTTPStatus.TOO_MANY_REQUESTS,
            code=None,
            cause=Cause.RATE_LIMIT,
            retry_after_seconds=max(1, math.ceil(seconds)),
        )


class RequestBudget:
    """Takes requests from the budgets of one mode."""

    def __init__(self, publisher: InternalCalls, mode: str) -> None:
        self._publisher = publisher
        self._mode = mode

    async def require(self, account_id: UUID, operation: str, category: Category) -> None:
        """Takes one request. Raises BudgetUsedUp if it has to wait."""
        request = {"mode": self._mode, "account_id": str(account_id), "category": category.value}
        try:
            answer = await self._publisher.post(
                "pinterest/grants", request, timeout_seconds=GRANT_SECONDS
            )
        except ApiError as error:
            log.info("request_not_counted", operation=operation, reason=error.message)
            return
        if (seconds := answer["wait_seconds"]) > 0:
            log.info(
                "budget_used_up", operation=operation, category=category.value, seconds=seconds
            )
            raise BudgetUsedUp(operation, seconds)
