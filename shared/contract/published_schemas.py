"""Lists the events whose JSON Schemas are committed."""

from shared.contract.delivery_events import DeliveryAttempted, DeliverySettled
from shared.contract.events import (
    FileUploaded,
    ImportAccepted,
    ImportCompleted,
    ImportRejected,
    ImportRequested,
    RowAccepted,
    RowsSettled,
)
from shared.contract.pin_events import PinDeferred, PinFailed, PinPublished, PinQueued, PinScheduled
from shared.contract.wire import WireStruct

PUBLISHED_SCHEMAS: tuple[type[WireStruct], ...] = (
    ImportRequested,
    ImportAccepted,
    ImportRejected,
    RowAccepted,
    RowsSettled,
    FileUploaded,
    ImportCompleted,
    PinPublished,
    PinScheduled,
    PinQueued,
    PinDeferred,
    PinFailed,
    DeliveryAttempted,
    DeliverySettled,
)
