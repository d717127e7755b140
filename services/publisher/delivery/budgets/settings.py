"""Defines the settings of how fast pins are delivered.

The delivery process keeps these limits. The publisher needs them to estimate the end of a backlog,
and to grant requests to the access service.
"""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from services.publisher.delivery.budgets.rules import BudgetLimits
from shared.runtime.settings import SETTINGS_CONFIG


class DeliveryLimitSettings(BaseSettings):
    """Limits of the requests to Pinterest."""

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

    delivery_confirm_seconds: Annotated[float, Field(ge=1, le=3600)] = 120
    """Seconds between the look that does not find a pin on Pinterest, and the second look that
    decides. Pinterest may list a new pin late."""

    @property
    def budget_limits(self) -> BudgetLimits:
        return BudgetLimits(
            account_writes_per_minute=self.delivery_account_writes_per_minute,
            account_reads_per_minute=self.delivery_account_reads_per_minute,
            daily_pins=self.delivery_daily_pins,
            app_requests_per_second=self.delivery_app_requests_per_second,
            app_writes_per_day=self.delivery_app_writes_per_day,
        )
