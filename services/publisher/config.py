"""The publisher's settings."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from services.publisher.delivery.budgets.settings import DeliveryLimitSettings
from shared.contract.topics import TopicName
from shared.pinterest.settings import PinterestApiSettings
from shared.runtime.settings import ListSettings, ServiceSettings

MAX_BATCH_PINS = 100
MAX_BULK_IDS = 100


class PublisherSettings(DeliveryLimitSettings, PinterestApiSettings, ServiceSettings, ListSettings):
    pin_body_limit: Annotated[int, Field(ge=1024)] = 64 * 1024
    """Maximum bytes of a request body, except for POST /v1/pins/batch."""
    batch_body_limit: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    """Maximum bytes of a request body of POST /v1/pins/batch. 100 of the longest pins are 1.4 MB in
    ASCII, and 7.9 MB with every character escaped (`\\uXXXX`).
    """
    max_batch_pins: Annotated[int, Field(ge=1, le=1000)] = MAX_BATCH_PINS
    """Maximum pins in one request of POST /v1/pins/batch."""
    max_bulk_ids: Annotated[int, Field(ge=1, le=1000)] = MAX_BULK_IDS
    """Maximum pins or schedules that one bulk request may change."""
    row_consumers: Annotated[int, Field(ge=1, le=32)] = 2
    """Members of the consumer group in this process. Each has its own partitions and batches
    (docs/decisions/0012). If all replicas together have more members than partitions, some members
    are idle. PINFLOW_DATABASE_POOL_SIZE must be at least this number + 4.
    """
    schedule_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """Seconds between two searches for due schedules, and for waiting events in the outbox. After a
    search that found any, the next search follows at once.
    """
    sweep_limit: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Maximum due schedules, or waiting events, that one transaction takes."""

    max_direct_pins: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Maximum concurrent requests that publish, change or check pins and schedules. A batch counts
    as one. Further requests are answered 429 at once.
    """

    pin_events_compression: Literal["snappy", "none"] = "snappy"
    """The codec of batches of pin events. `none` is for consumers that can't read snappy
    (docs/how-to/run-in-production.md). It costs more of the broker and of the disk.
    """

    @model_validator(mode="after")
    def _require_enough_connections(self) -> Self:
        minimum = self.background_connections + 1
        if self.database_pool_size < minimum:
            raise ValueError(
                f"PINFLOW_DATABASE_POOL_SIZE must be at least PINFLOW_ROW_CONSUMERS + 4 = {minimum}"
            )
        return self

    @property
    def compressed_topics(self) -> tuple[TopicName, ...]:
        """The topics whose batches the publisher compresses."""
        if self.pin_events_compression == "none":
            return (TopicName.OUTCOMES,)
        return TopicName.OUTCOMES, TopicName.PIN_EVENTS

    @property
    def background_connections(self) -> int:
        """The pool's connections that are reserved for background work.

        One for each consumer, two for the scheduler (its transaction and its check of boards) and
        one for the outbox.
        """
        return self.row_consumers + 3
