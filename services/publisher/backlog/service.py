"""Describes the backlog of deliveries, and what is left of the budgets at Pinterest."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.publisher.backlog.estimate import (
    MAX_SECONDS,
    Bucket,
    DailyQuota,
    Pace,
    combine_quotas,
    estimate_seconds,
    measure_interval,
    share_bucket,
)
from services.publisher.backlog.repository import BacklogRepository, StoredBudget
from services.publisher.delivery.budgets.rules import (
    DAY,
    BudgetLimits,
    BudgetRule,
    account_rule,
    app_rule,
)
from services.publisher.delivery.model import APP, MAX_REST_SECONDS
from shared.access.connection_health import RECONNECT_CODES
from shared.access.model import Principal
from shared.contract.errors import ErrorCode
from shared.pinterest.model import Category
from shared.postgres.row import Row

_NEEDS_A_PERSON = {
    *map(ErrorCode, RECONNECT_CODES),
    ErrorCode.ACCOUNT_NOT_CONNECTED,
    ErrorCode.APP_NOT_APPROVED,
    ErrorCode.PINTEREST_OFF,
}
"""The codes of pauses that somebody has to end, so nobody knows when."""

_MAX_REST = timedelta(seconds=MAX_REST_SECONDS)
_IS_BLOCKED = (
    "Pinterest allows no more requests of the account, or of the app, for a while. Pinflow "
    "continues by itself."
)
APP_IS_PAUSED = "The app is paused: "
"""Begins the reason of a pause that all accounts share."""


class DeliveryPause(NamedTuple):
    """Says why no pin of an account is sent now. `until` is None if a person has to end it."""

    code: str
    message: str
    until: datetime | None


class AccountBacklog(NamedTuple):
    """The pins of an account that wait for their delivery."""

    account_id: UUID
    queued_count: int
    publishing_count: int
    oldest_queued_at: datetime | None
    pause: DeliveryPause | None
    estimated_end: datetime | None


class BacklogService:
    """Reads backlogs and budgets. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(
        self,
        backlog: BacklogRepository,
        limits: BudgetLimits,
        *,
        spacing_seconds: float,
        confirm_seconds: float,
        is_on: bool,
    ) -> None:
        """Takes the limits of the delivery process, and whether the installation delivers pins."""
        self._backlog = backlog
        self._spacing_seconds = spacing_seconds
        self._confirm_time = timedelta(seconds=confirm_seconds)
        self._is_on = is_on
        self._account_rule = account_rule(limits, Category.WRITE)
        self._app_rule = app_rule(limits)

    async def list_accounts(self, principal: Principal) -> list[AccountBacklog]:
        """Returns the accounts that were ever connected and that the API key may use."""
        rows = await self._backlog.read_accounts(principal.workspace_id, principal.account_ids)
        if not rows:
            return []
        app = await self._backlog.read_app()
        return [self._describe(row, app) for row in rows]

    async def read_buckets(
        self, workspace_id: UUID, account_id: UUID
    ) -> tuple[Bucket, Bucket] | None:
        """Returns the buckets of an account and of the app. None if it was never connected."""
        budgets = await self._backlog.read_budgets(workspace_id, account_id)
        if account_id not in budgets:
            return None
        return (
            compute_bucket(budgets[account_id], self._account_rule),
            compute_bucket(budgets[APP], self._app_rule),
        )

    def _describe(self, row: Row, app: Row) -> AccountBacklog:
        pause = self._find_pause(row, app)
        return AccountBacklog(
            row["account_id"],
            row["queued"],
            row["publishing"],
            row["oldest_queued_at"],
            pause,
            self._estimate_end(row, app, pause),
        )

    def _find_pause(self, row: Row, app: Row) -> DeliveryPause | None:
        if not self._is_on:
            message = (
                "This installation does not deliver to Pinterest now. The operator switches it on "
                "with PINFLOW_PINTEREST_MODE."
            )
            return DeliveryPause(ErrorCode.PINTEREST_OFF, message, None)
        if row["is_disconnected"]:
            message = (
                "The account is not connected to Pinterest any more, or in another mode than this "
                "installation. Connect it again."
            )
            return DeliveryPause(ErrorCode.ACCOUNT_NOT_CONNECTED, message, None)
        pauses = [
            _read_pause(paused, beginning)
            for paused, beginning in ((row, ""), (app, APP_IS_PAUSED))
            if paused["paused_until"] is not None and paused["paused_until"] > row["now"]
        ]
        if pauses:
            return _combine_pauses(pauses)
        blocked_until = row["blocked_until"]
        if blocked_until is None or blocked_until <= row["now"] + _MAX_REST:
            return None
        return DeliveryPause(ErrorCode.RATE_LIMITED, _IS_BLOCKED, blocked_until)

    def _estimate_end(self, row: Row, app: Row, pause: DeliveryPause | None) -> datetime | None:
        """Returns None if nothing is on its way, or if a person has to do something first.

        Also if the end is more than MAX_SECONDS away.
        """
        is_empty = not row["queued"] and not row["publishing"]
        if is_empty or (pause is not None and pause.until is None):
            return None
        now: datetime = row["now"]
        # Pins that wait by themselves: for their image or video
        own_wait = row["next_deliver_after"] if row["waiting"] == row["queued"] else None
        waits = (now, row["next_at"], row["blocked_until"], pause and pause.until, own_wait)
        start = max(time for time in waits if time is not None)
        account, of_app = StoredBudget.from_row(row), StoredBudget.from_row(app)
        accounts = app["sharing_accounts"]
        quota = compute_quota(account, self._account_rule, start)
        if quota is None:
            raise AssertionError("An account always has a quota.")
        pace = Pace(
            measure_interval(row["gaps"], self._spacing_seconds),
            share_bucket(
                compute_bucket(account, self._account_rule, start),
                compute_bucket(of_app, self._app_rule, start),
                accounts,
            ),
            combine_quotas(quota, compute_quota(of_app, self._app_rule, start), accounts),
        )
        seconds = estimate_seconds(row["queued"], pace)
        if seconds > MAX_SECONDS:
            return None
        end = start + timedelta(seconds=seconds)
        lasts = (row["last_deliver_after"], self._find_end_of_doubt(row, start))
        interval = timedelta(seconds=pace.interval_seconds)
        return max([end, *(last + interval for last in lasts if last is not None)])

    def _find_end_of_doubt(self, row: Row, start: datetime) -> datetime | None:
        """Returns when the last pin in doubt is decided. None if the answer to none was lost.

        Until then, pins that look like it wait. It may be absent: then it is sent again.
        """
        first, second = row["last_first_look_at"], row["last_second_look_at"]
        ends = (first and max(first, start) + self._confirm_time, second and max(second, start))
        return max((end for end in ends if end is not None), default=None)


def _read_pause(row: Row, beginning: str) -> DeliveryPause:
    code = row["pause_code"]
    until = None if code in _NEEDS_A_PERSON else row["paused_until"]
    return DeliveryPause(code, beginning + row["pause_message"], until)


def _combine_pauses(pauses: Sequence[DeliveryPause]) -> DeliveryPause:
    """Combines pauses that run at the same time. The first gives the code, the longest the end."""
    ends = [pause.until for pause in pauses if pause.until is not None]
    message = " ".join(pause.message for pause in pauses)
    until = max(ends) if len(ends) == len(pauses) else None
    return DeliveryPause(pauses[0].code, message, until)


def compute_bucket(budget: StoredBudget, rule: BudgetRule, at: datetime | None = None) -> Bucket:
    """Returns a budget's bucket as it is at a time, by default now."""
    at = at or budget.now
    level = rule.capacity
    if (state := budget.state) is not None:
        refilled = (at - state.refilled_at).total_seconds() * rule.per_second
        level = max(0.0, min(rule.capacity, state.level + refilled))
        if state.blocked_until is not None and state.blocked_until > at:
            level = 0.0
    return Bucket(level, rule.capacity, rule.per_second)


def compute_quota(budget: StoredBudget, rule: BudgetRule, at: datetime) -> DailyQuota | None:
    """Returns what is left of a day at a time. None if there is no limit of a day."""
    if rule.per_day is None:
        return None
    state = budget.state
    if state is None or state.day_started_at + DAY <= at:
        return DailyQuota(rule.per_day, rule.per_day, DAY.total_seconds())
    left = max(0, rule.per_day - state.used)
    return DailyQuota(rule.per_day, left, (state.day_started_at + DAY - at).total_seconds())
