"""What the publisher can be told."""

from typing import Annotated

from pydantic import Field

from shared.settings import ServiceSettings


class PublisherSettings(ServiceSettings):
    pin_body_limit: Annotated[int, Field(ge=1024)] = 64 * 1024
    """Bytes of one pin sent to POST /v1/pins."""
    schedule_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """How often the scheduler looks for what is due."""
    sweep_limit: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Schedules, or waiting events, taken in one transaction."""
