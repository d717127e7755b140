"""Defines the settings of the delivery process."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from services.publisher.delivery.budgets.settings import DeliveryLimitSettings
from services.publisher.delivery.media.config import MediaSettings
from shared.runtime.settings import ServiceSettings

LEASE_MARGIN_SECONDS = 10.0
"""The time that a lease outlasts the timeout of a request to Pinterest."""


class DeliverySettings(DeliveryLimitSettings, MediaSettings, ServiceSettings):
    delivery_concurrency: Annotated[int, Field(ge=1, le=500)] = 50
    """Accounts that one process serves at the same time. Each has one request in flight."""
    delivery_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5
    """Seconds between two searches for pins to deliver. After a search that found any, the next
    follows at once."""
    delivery_confirm_pages: Annotated[int, Field(ge=1, le=100)] = 10
    """Maximum pages of a board's list that one look reads. If the list is longer, the pin can't be
    confirmed."""
    delivery_fetch_tries: Annotated[int, Field(ge=1, le=20)] = 5
    """Tries of a pin whose image can't be fetched. Then it fails with `media_unreachable`."""
    pinterest_link_mark: bool = False
    """True adds the attempt's id to the fragment of each pin's link. Then a pin whose answer was
    lost is always recognized. It changes the customers' links. A pin without a link gets no mark.
    """

    @property
    def lease_seconds(self) -> float:
        """The length of a lease. It outlasts every request that its holder may have sent."""
        return self.pinterest_timeout_seconds + LEASE_MARGIN_SECONDS

    @model_validator(mode="after")
    def _require_enough_connections_and_time(self) -> Self:
        if self.database_pool_size < 3:  # noqa: PLR2004 - the search, a turn and the restore's gate
            raise ValueError("PINFLOW_DATABASE_POOL_SIZE must be at least 3")
        if self.media_fetch_seconds >= self.lease_seconds:
            raise ValueError(
                "PINFLOW_MEDIA_FETCH_SECONDS must be less than PINFLOW_PINTEREST_TIMEOUT_SECONDS + "
                f"{LEASE_MARGIN_SECONDS:g}"
            )
        return self
