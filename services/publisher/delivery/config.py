"""Defines the settings of the delivery process, and of the budgets of requests to Pinterest."""

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from services.publisher.delivery.budgets import BudgetLimits
from services.publisher.delivery.media.config import MediaSettings
from shared.runtime.settings import SETTINGS_CONFIG, ServiceSettings

LEASE_MARGIN_SECONDS = 10.0
"""The time that a lease outlasts the timeout of a request to Pinterest."""


class BudgetSettings(BaseSettings):
    """Limits the requests to Pinterest. The delivery process and the publisher read the same
    variables: the publisher grants requests to the access service."""

    model_config = SETTINGS_CONFIG

    delivery_spacing_seconds: Annotated[float, Field(ge=0, le=86_400)] = 2
    """Minimum seconds between two pins of one account."""
    delivery_daily_pins: Annotated[int, Field(ge=1, le=200_000)] = 200
    """Maximum pins of one account in 24 hours. Pinterest blocks accounts whose activity looks like
    spam."""
    delivery_account_writes_per_minute: Annotated[int, Field(ge=1, le=10_000)] = 60
    """Maximum changes of one account at Pinterest in a minute. Pinterest's limit for an app with
    Standard access is 100."""
    delivery_account_reads_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Maximum reads of one account at Pinterest in a minute. Pinterest's limit is 1000."""
    delivery_app_writes_per_day: Annotated[int, Field(ge=0)] = 0
    """Maximum changes of all accounts together in 24 hours. 0: no limit. An app with Trial access
    has 300."""
    delivery_app_requests_per_second: Annotated[int, Field(ge=1, le=10_000)] = 80
    """Maximum requests of all accounts together in a second."""

    @property
    def budget_limits(self) -> BudgetLimits:
        return BudgetLimits(
            account_writes_per_minute=self.delivery_account_writes_per_minute,
            account_reads_per_minute=self.delivery_account_reads_per_minute,
            daily_pins=self.delivery_daily_pins,
            app_requests_per_second=self.delivery_app_requests_per_second,
            app_writes_per_day=self.delivery_app_writes_per_day,
        )


class DeliverySettings(BudgetSettings, MediaSettings, ServiceSettings):
    delivery_concurrency: Annotated[int, Field(ge=1, le=500)] = 50
    """Accounts that one process serves at the same time. Each has one request in flight."""
    delivery_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5
    """Seconds between two searches for pins to deliver. After a search that found any, the next
    follows at once."""
    delivery_confirm_seconds: Annotated[float, Field(ge=1, le=3600)] = 120
    """Seconds between the look that does not find a pin on Pinterest, and the second look that
    decides. Pinterest may list a new pin late."""
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
    def _require_enough_connections(self) -> Self:
        if self.database_pool_size < 3:  # noqa: PLR2004 - the search, a turn and the restore's gate
            raise ValueError("PINFLOW_DATABASE_POOL_SIZE must be at least 3")
        return self
