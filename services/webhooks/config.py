"""Settings of the webhooks service."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from services.webhooks.delivery.policy import DisablePolicy, RetryPolicy
from shared.http.address_rules import AddressRules, PortRanges
from shared.runtime.settings import Addresses, ServiceSettings

BACKGROUND_CONNECTIONS = 3
"""Database connections that HTTP leaves to the consumer and the periodic tasks."""
CLAIM_MARGIN_SECONDS = 5.0


class WebhooksSettings(ServiceSettings):
    webhooks_per_workspace: Annotated[int, Field(ge=1, le=1000)] = 20
    """Maximum number of webhooks of a workspace.

    A request that would create one more gets 409 `too_many_webhooks`.
    """
    webhook_body_limit: Annotated[int, Field(ge=1024)] = 16 * 1024
    """Maximum bytes of the body of a request that creates or changes a webhook."""

    event_records: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Maximum records in a batch.

    Events without a subscribed webhook cost almost nothing. A batch costs one fetch, one commit
    and one query.
    """
    event_wait_ms: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Maximum milliseconds that Kafka waits to collect events for a batch.

    It answers at once when it has four megabytes.
    """

    webhook_attempts: Annotated[int, Field(ge=1, le=50)] = 8
    """Maximum attempts of one delivery. If the last one fails, the delivery has failed."""
    webhook_first_retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 5
    """Maximum pause before the first retry. Each pause is random: from 0 to its maximum."""
    webhook_retry_factor: Annotated[float, Field(ge=1, le=10)] = 3
    """Factor by which the maximum pause grows with each further retry."""
    webhook_longest_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 3600
    """Maximum pause before any retry."""
    webhook_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10
    """Timeout of an attempt, including name resolution and connecting."""
    webhook_deliveries_at_once: Annotated[int, Field(ge=1, le=1000)] = 64
    """Maximum concurrent requests of one process."""
    webhook_deliveries_at_once_each: Annotated[int, Field(ge=1, le=1000)] = 4
    """Maximum concurrent requests of one process to one webhook.

    After a failed attempt the webhook gets one request at a time, until one succeeds.
    """
    webhook_deliveries_at_once_workspace: Annotated[int, Field(ge=1, le=1000)] = 32
    """Maximum concurrent requests of one process to all webhooks of one workspace."""
    webhook_deliveries_at_once_failing: Annotated[int, Field(ge=1, le=1000)] = 16
    """Maximum concurrent requests of one process to all webhooks whose latest attempt failed.

    Other webhooks go first.
    """
    webhook_failures_until_disabled: Annotated[int, Field(ge=1, le=1000)] = 5
    """Number of consecutive failed deliveries after which a webhook is disabled.

    Consecutive failed attempts also disable it: at least this number × PINFLOW_WEBHOOK_ATTEMPTS,
    over at least the sum of one delivery's maximum pauses.
    """
    webhook_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """Seconds between two searches for due deliveries. New deliveries start at once."""
    webhook_retention_days: Annotated[float, Field(gt=0, le=365)] = 7
    """Days for which a delivery is kept after its event, whatever its status."""

    webhook_allow_private_addresses: bool = False
    """Allows receivers at every address: loopback, private networks, link-local.

    Only for development.
    """
    webhook_allowed_networks: Addresses = ""
    """Comma-separated networks that are allowed although they are not public, such as 10.1.0.0/16.
    """
    webhook_ports: PortRanges = "80,443,1024-65535"
    """Allowed ports. Below 1024, other protocols such as mail could read a body as commands."""
    webhook_ca_file: str | None = None
    """PEM file of the certificate authorities that receivers' certificates are checked with.

    Without it, the system's authorities are used.
    """

    @model_validator(mode="after")
    def _require_enough_connections(self) -> Self:
        if self.database_pool_size <= BACKGROUND_CONNECTIONS:
            raise ValueError(
                f"PINFLOW_DATABASE_POOL_SIZE must be at least {BACKGROUND_CONNECTIONS + 1}"
            )
        return self

    @property
    def claim_seconds(self) -> float:
        """The duration of a claim: longer than an attempt.

        After it, any worker may claim the delivery again.
        """
        return self.webhook_timeout_seconds + CLAIM_MARGIN_SECONDS

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=self.webhook_attempts,
            first_pause_seconds=self.webhook_first_retry_seconds,
            factor=self.webhook_retry_factor,
            max_pause_seconds=self.webhook_longest_retry_seconds,
        )

    @property
    def disable_policy(self) -> DisablePolicy:
        return DisablePolicy.from_retry_policy(
            self.webhook_failures_until_disabled, self.retry_policy
        )

    @property
    def address_rules(self) -> AddressRules:
        return AddressRules.from_settings(
            variables="PINFLOW_WEBHOOK",
            allow_private=self.webhook_allow_private_addresses,
            allowed=self.webhook_allowed_networks,
            ports=self.webhook_ports,
        )
