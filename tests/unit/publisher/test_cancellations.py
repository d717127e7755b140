"""Decides what the cancellation of an import does with each of its pins."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.publisher.imports.rules import CancelAction, LeftReason, decide_cancel

TIME = datetime(2026, 11, 30, tzinfo=UTC)
ACCOUNT = uuid4()


def build_pin(**fields: Any) -> dict[str, Any]:
    """Builds a pin without a schedule that waits for its delivery."""
    return {
        "account_id": ACCOUNT,
        "state": "queued",
        "run_at": None,
        "deleted_at": None,
        "touched_at": None,
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "decision"),
    [
        ({}, CancelAction.WITHDRAW),
        ({"touched_at": TIME}, LeftReason.CHANGED),
        ({"touched_at": TIME, "deleted_at": TIME}, LeftReason.DELETED),
        ({"deleted_at": TIME}, CancelAction.NOTHING),
        ({"state": "publishing"}, LeftReason.PUBLISHING),
        ({"state": "confirming"}, LeftReason.PUBLISHING),
        ({"state": "published"}, None),
        ({"state": "failed"}, None),
    ],
)
def test_a_pin_without_a_schedule_is_withdrawn_only_while_it_waits_untouched(
    fields: dict[str, Any], decision: CancelAction | LeftReason | None
) -> None:
    assert decide_cancel(build_pin(**fields), None) is decision
    assert decide_cancel(build_pin(**fields), {ACCOUNT}) is decision


@pytest.mark.parametrize("deleted_at", [None, TIME])
def test_a_pin_of_another_account_is_left(deleted_at: datetime | None) -> None:
    pin = build_pin(deleted_at=deleted_at)
    assert decide_cancel(pin, {uuid4()}) is LeftReason.ACCOUNT_NOT_PERMITTED


@pytest.mark.parametrize(
    ("state", "decision"),
    [
        ("scheduled", CancelAction.CANCEL),
        ("queued", CancelAction.CANCEL),
        ("publishing", LeftReason.PUBLISHING),
        ("cancelled", CancelAction.NOTHING),
        ("published", LeftReason.PUBLISHED),
        ("failed", LeftReason.FAILED),
    ],
)
def test_a_schedule_is_canceled_while_it_waits(
    state: str, decision: CancelAction | LeftReason
) -> None:
    assert decide_cancel(build_pin(state=state, run_at=TIME), None) is decision
