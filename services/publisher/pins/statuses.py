"""Names the states of pins and schedules as PinBridge's clients know them."""

from enum import StrEnum
from typing import assert_never

from services.publisher.model import PinState


class PinStatus(StrEnum):
    QUEUED = "queued"
    DEFERRED = "deferred"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"


class ScheduleStatus(StrEnum):
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    DEFERRED = "deferred"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


def translate_pin_state(state: str) -> PinStatus:
    """Translates the state of a pin that clients see. A cancelled schedule is none."""
    match PinState(state):
        case PinState.PUBLISHED:
            return PinStatus.PUBLISHED
        case PinState.FAILED:
            return PinStatus.FAILED
        case PinState.SCHEDULED:
            return PinStatus.QUEUED  # due: the scheduler is about to publish it
        case PinState.CANCELED:
            raise AssertionError("a cancelled schedule is no pin")
        case unknown:
            assert_never(unknown)


def translate_schedule_state(state: str, *, is_due: bool) -> ScheduleStatus:
    match PinState(state):
        case PinState.PUBLISHED:
            return ScheduleStatus.DONE
        case PinState.FAILED:
            return ScheduleStatus.FAILED
        case PinState.CANCELED:
            return ScheduleStatus.CANCELED
        case PinState.SCHEDULED:
            return ScheduleStatus.QUEUED if is_due else ScheduleStatus.SCHEDULED
        case unknown:
            assert_never(unknown)
