"""The statuses of pins and schedules in the API, with the names of PinBridge."""

from enum import StrEnum
from typing import assert_never

from services.publisher.model import PinState


class PinStatus(StrEnum):
    """The state of a pin.

    - `queued`: due, and about to be published.
    - `published`: published.
    - `failed`: could not be published; it can be retried.
    - `deferred`, `publishing`: exist only in PinBridge.
    """

    QUEUED = "queued"
    DEFERRED = "deferred"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"


class ScheduleStatus(StrEnum):
    """The state of a schedule.

    - `scheduled`: waits for its `run_at`.
    - `queued`: due, and about to be published.
    - `done`: its pin is published.
    - `failed`: could not be published; it can be retried.
    - `canceled`: never published unless it is retried.
    - `deferred`, `running`: exist only in PinBridge.
    """

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    DEFERRED = "deferred"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


def translate_pin_state(state: str) -> PinStatus:
    """Translates a pin's state into its status. A canceled schedule has no pin."""
    match PinState(state):
        case PinState.PUBLISHED:
            return PinStatus.PUBLISHED
        case PinState.FAILED:
            return PinStatus.FAILED
        case PinState.SCHEDULED:
            return PinStatus.QUEUED  # due: the scheduler publishes it soon
        case PinState.CANCELED:
            raise AssertionError("A canceled schedule has no pin.")
        case unknown:
            assert_never(unknown)


def translate_schedule_state(state: str, *, is_due: bool) -> ScheduleStatus:
    """Translates a schedule's state into its status."""
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
