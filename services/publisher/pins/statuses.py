"""The statuses of pins and schedules in the API, with the names of PinBridge."""

from enum import StrEnum
from typing import assert_never

from services.publisher.model import PinState


class PinStatus(StrEnum):
    """The state of a pin.

    - `queued`: due, and about to be published, or sent to Pinterest.
    - `deferred`: waits longer, because Pinterest, or a limit, does not allow it to be sent now.
      `error_code` says why. Do not submit it again.
    - `publishing`: being sent to Pinterest. Or its answer was lost, and Pinflow is asking Pinterest
      whether it has the pin.
    - `published`: published. If its account is connected, it is on Pinterest.
    - `failed`: could not be published; it can be retried.

    Only pins with `delivery` `pinterest` are `deferred` or `publishing`.
    """

    QUEUED = "queued"
    DEFERRED = "deferred"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"


class ScheduleStatus(StrEnum):
    """The state of a schedule.

    - `scheduled`: waits for its `run_at`.
    - `queued`: due, and about to be published, or sent to Pinterest.
    - `deferred`: due, but Pinterest, or a limit, does not allow it to be sent now.
    - `running`: its pin is being sent to Pinterest.
    - `done`: its pin is published.
    - `failed`: could not be published; it can be retried.
    - `canceled`: never published unless it is retried.
    """

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    DEFERRED = "deferred"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


def translate_pin_state(state: str, *, is_deferred: bool = False) -> PinStatus:
    """Translates a pin's state into its status. A canceled schedule has no pin."""
    match PinState(state):
        case PinState.PUBLISHED:
            return PinStatus.PUBLISHED
        case PinState.FAILED:
            return PinStatus.FAILED
        case PinState.SCHEDULED:
            return PinStatus.QUEUED  # due: the scheduler publishes it soon
        case PinState.QUEUED:
            return PinStatus.DEFERRED if is_deferred else PinStatus.QUEUED
        case PinState.PUBLISHING | PinState.CONFIRMING:
            return PinStatus.PUBLISHING
        case PinState.CANCELED:
            raise AssertionError("A canceled schedule has no pin.")
        case unknown:
            assert_never(unknown)


def translate_schedule_state(
    state: str, *, is_due: bool, is_deferred: bool = False
) -> ScheduleStatus:
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
        case PinState.QUEUED:
            return ScheduleStatus.DEFERRED if is_deferred else ScheduleStatus.QUEUED
        case PinState.PUBLISHING | PinState.CONFIRMING:
            return ScheduleStatus.RUNNING
        case unknown:
            assert_never(unknown)
