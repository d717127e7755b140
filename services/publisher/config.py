"""What the publisher can be told."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.runtime.settings import ListSettings, ServiceSettings

MAX_BATCH_PINS = 100
MAX_BULK_IDS = 100


class PublisherSettings(ServiceSettings, ListSettings):
    pin_body_limit: Annotated[int, Field(ge=1024)] = 64 * 1024
    """Bytes of one pin sent to POST /v1/pins."""
    batch_body_limit: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    """Bytes of the pins sent to POST /v1/pins/batch. 100 of the longest are 1.4 MB in ASCII, and
    7.9 MB with every character escaped (`\\uXXXX`).
    """
    max_batch_pins: Annotated[int, Field(ge=1, le=1000)] = MAX_BATCH_PINS
    """Pins in one batch."""
    max_bulk_ids: Annotated[int, Field(ge=1, le=1000)] = MAX_BULK_IDS
    """Pins or schedules that are changed by one request."""
    row_consumers: Annotated[int, Field(ge=1, le=32)] = 2
    """Members of the consumer group in this process, each with partitions and batches of its own
    (docs/decisions/0012). Of more than there are partitions, in all replicas together, some have
    nothing to do. database_pool_size must have room for them and 4 more.
    """
    schedule_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """How often the scheduler looks for what is due, and the outbox for events that wait."""
    sweep_limit: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Schedules, or waiting events, taken in one transaction."""

    max_direct_pins: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Requests that publish or change pins and schedules, in work or waiting for a connection; a
    batch is one. Beyond it, 429 at once.
    """

    @model_validator(mode="after")
    def _have_connections_for_all(self) -> Self:
        minimum = self.background_connections + 1
        if self.database_pool_size < minimum:
            raise ValueError(f"database_pool_size must be at least row_consumers + 4 = {minimum}")
        return self

    @property
    def background_connections(self) -> int:
        """Of the pool, for what is not HTTP: one a consumer; two for the scheduler, its own and its
        check's; one for the outbox.
        """
        return self.row_consumers + 3
