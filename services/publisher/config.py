"""What the publisher can be told."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.settings import ServiceSettings


class PublisherSettings(ServiceSettings):
    pin_body_limit: Annotated[int, Field(ge=1024)] = 64 * 1024
    """Bytes of one pin sent to POST /v1/pins."""
    row_consumers: Annotated[int, Field(ge=1, le=6)] = 2
    """Members of the consumer group in this process, each with partitions and batches of its own (docs/decisions/0012)."""
    schedule_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """How often the scheduler looks for what is due."""
    sweep_limit: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Schedules, or waiting events, taken in one transaction."""

    @model_validator(mode="after")
    def _have_connections_for_all(self) -> Self:
        # The scheduler takes two, its own and its check's; the outbox one; HTTP at least one
        if self.database_pool_size < self.row_consumers + 4:
            raise ValueError(f"database_pool_size must be at least row_consumers + 4 = {self.row_consumers + 4}")
        return self
