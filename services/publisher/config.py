"""What the publisher can be told."""

from typing import Annotated

from pydantic import Field

from shared.settings import ServiceSettings


class PublisherSettings(ServiceSettings):
    pin_body_limit: Annotated[int, Field(ge=1024)] = 64 * 1024
    """Bytes of one pin sent to POST /v1/pins."""
    row_consumers: Annotated[int, Field(ge=1, le=16)] = 2
    """Members of the consumer group in this process, each with partitions and batches of its own: while one waits for Postgres or Kafka
    the other computes (docs/performance.md: 10 to 12 % more rows/s; one leaves a tenth of two cores idle)."""
    schedule_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """How often the scheduler looks for what is due."""
    sweep_limit: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Schedules, or waiting events, taken in one transaction."""
