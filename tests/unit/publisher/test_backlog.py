"""The pause and the estimated end of an account's backlog."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.publisher.backlog.repository import BacklogRepository
from services.publisher.backlog.service import AccountBacklog, BacklogService
from services.publisher.delivery.budgets.settings import DeliveryLimitSettings
from shared.access.model import Principal
from shared.postgres.row import Row

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
NO_PAUSE: Row = {"paused_until": None, "pause_code": None, "pause_message": None}
UNUSED_BUDGET: Row = {
    "level": None,
    "refilled_at": None,
    "blocked_until": None,
    "day_started_at": None,
    "used": None,
}
ACCOUNT: Row = {
    "account_id": uuid4(),
    "now": NOW,
    "is_disconnected": False,
    "next_at": None,
    "queued": 1,
    "oldest_queued_at": NOW,
    "waiting": 0,
    "next_deliver_after": None,
    "last_deliver_after": None,
    "publishing": 0,
    "last_first_look_at": None,
    "last_second_look_at": None,
    "gaps": [],
    **NO_PAUSE,
    **UNUSED_BUDGET,
}
APP: Row = {"now": NOW, "sharing_accounts": 1, **NO_PAUSE, **UNUSED_BUDGET}


class StoredBacklog(BacklogRepository):
    """The rows of one account and of the app, in memory."""

    def __init__(self, account: Row, app: Row) -> None:
        self._account = account
        self._app = app

    async def read_accounts(
        self, _workspace_id: UUID, _permitted: Collection[UUID] | None
    ) -> list[Row]:
        return [self._account]

    async def read_app(self) -> Row:
        return self._app


async def describe(account: Row, app: Row | None = None, **limits: Any) -> AccountBacklog:
    settings = DeliveryLimitSettings(**limits)
    service = BacklogService(
        StoredBacklog({**ACCOUNT, **account}, {**APP, **(app or {})}),
        settings.budget_limits,
        spacing_seconds=settings.delivery_spacing_seconds,
        confirm_seconds=settings.delivery_confirm_seconds,
        is_on=True,
    )
    (backlog,) = await service.list_accounts(Principal(uuid4(), uuid4(), frozenset(), None))
    return backlog


def build_pause(code: str, message: str = "Wait.", **length: float) -> Row:
    return {
        "paused_until": NOW + timedelta(**length),
        "pause_code": code,
        "pause_message": message,
    }


def build_block(**length: float) -> Row:
    """Builds the budget of an account after Pinterest said that nothing is left."""
    return {
        "level": 0.0,
        "refilled_at": NOW,
        "blocked_until": NOW + timedelta(**length),
        "day_started_at": NOW,
        "used": 0,
    }


async def test_of_two_pauses_the_accounts_is_named_first_and_the_longer_one_counts() -> None:
    account = build_pause("rate_limited", "Too many requests.", minutes=1)
    app = build_pause("quota_exceeded", "The day is used up.", hours=20)
    backlog = await describe(account, app)
    assert backlog.pause is not None
    assert backlog.pause.code == "rate_limited"
    assert backlog.pause.message == "Too many requests. The app is paused: The day is used up."
    assert backlog.pause.until == NOW + timedelta(hours=20)
    assert backlog.estimated_end is not None
    assert backlog.estimated_end > backlog.pause.until


@pytest.mark.parametrize(
    ("of_account", "of_app"),
    [("rate_limited", "app_not_approved"), ("token_revoked", "quota_exceeded")],
)
async def test_a_pause_that_a_person_has_to_end_beside_another_has_no_time(
    of_account: str, of_app: str
) -> None:
    backlog = await describe(build_pause(of_account, hours=1), build_pause(of_app, hours=2))
    assert backlog.pause is not None
    assert (backlog.pause.code, backlog.pause.until) == (of_account, None)
    assert backlog.estimated_end is None


async def test_the_end_waits_until_pinterest_takes_changes_of_the_account_again() -> None:
    backlog = await describe(build_block(hours=3))
    assert backlog.estimated_end is not None
    wait = backlog.estimated_end - NOW
    assert timedelta(hours=3) < wait < timedelta(hours=3, minutes=1)
    assert backlog.pause is not None
    assert (backlog.pause.code, backlog.pause.until) == ("rate_limited", NOW + timedelta(hours=3))


async def test_a_short_wait_for_the_budget_is_no_pause() -> None:
    assert (await describe(build_block(seconds=50))).pause is None


async def test_an_end_in_more_than_a_hundred_years_is_none() -> None:
    in_50_years, in_200_years, beyond_any_calendar = 50 * 365, 200 * 365, 10**12
    near = await describe({"queued": in_50_years}, delivery_daily_pins=1)
    assert near.estimated_end is not None
    for queued in (in_200_years, beyond_any_calendar):
        far = await describe({"queued": queued}, delivery_daily_pins=1)
        assert (far.queued_count, far.estimated_end) == (queued, None)
