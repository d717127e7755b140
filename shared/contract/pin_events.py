"""Defines the events of pins, on the topic `pin-events`."""

from uuid import UUID

from shared.contract.event_times import AwareTime
from shared.contract.events import Event


class PinEvent(Event, frozen=True, kw_only=True):
    """The fields that all events of a pin share. Topic `pin-events`.

    job_id and row_number name the import that the pin came from, if any.
    """

    pin_id: UUID
    workspace_id: UUID
    account_id: UUID
    board_id: str
    idempotency_key: str
    job_id: UUID | None = None
    row_number: int | None = None


class UndeliveredPinPublished(PinEvent, frozen=True, kw_only=True):
    """PinPublished as it is written for a pin that is not delivered to Pinterest.

    Its record is the same as before there was delivery.
    """

    published_at: AwareTime


class PinPublished(UndeliveredPinPublished, frozen=True, kw_only=True):
    """Type `pinflow.pin.published.v1`.

    A pin of an account that is connected to Pinterest has a `pinterest_pin_id`.
    """

    pinterest_pin_id: str | None = None


class PinQueued(PinEvent, frozen=True, kw_only=True):
    """A pin of a connected account waits for its delivery. Type `pinflow.pin.queued.v1`.

    `queued_at` of an import's row is the time when the import was accepted.
    """

    queued_at: AwareTime


class PinDeferred(PinEvent, frozen=True, kw_only=True):
    """A pin that was to be delivered waits for a cause of its own.

    Type `pinflow.pin.deferred.v1`. A pause of the account or of the app is not announced for each
    of its pins.
    """

    error_code: str
    deferred_until: AwareTime
    deferred_at: AwareTime


class PinScheduled(PinEvent, frozen=True, kw_only=True):
    """Type `pinflow.pin.scheduled.v1`."""

    schedule_id: UUID
    run_at: AwareTime


class PinFailed(PinEvent, frozen=True, kw_only=True):
    """A pin could not be published. Type `pinflow.pin.failed.v1`.

    `schedule_id` is that of a scheduled pin.
    """

    schedule_id: UUID | None = None
    error_code: str
    error_message: str
    failed_at: AwareTime
