"""Defines the records of the topic `deliveries`: attempts to create pins on Pinterest."""

from typing import Literal
from uuid import UUID

from shared.contract.event_times import AwareTime
from shared.contract.wire import WireStruct


class DeliveryAttempted(WireStruct, frozen=True, kw_only=True):
    """A request that creates a pin on Pinterest is about to be sent. Topic `deliveries`.

    The delivery process sends the request only after Kafka has this record. The texts are those
    with which a pin on Pinterest is compared, as they are sent.
    """

    kind: Literal["attempted"] = "attempted"
    attempt_id: UUID
    pin_id: UUID
    number: int
    workspace_id: UUID
    account_id: UUID
    mode: str
    fence: int
    board_id: str
    texts: dict[str, str | None]
    started_at: AwareTime
    deadline_at: AwareTime


class DeliverySettled(WireStruct, frozen=True, kw_only=True):
    """The outcome of an attempt. Topic `deliveries`, after the attempt's DeliveryAttempted."""

    kind: Literal["settled"] = "settled"
    attempt_id: UUID
    pin_id: UUID
    account_id: UUID
    outcome: str
    pinterest_pin_id: str | None = None
    settled_at: AwareTime
