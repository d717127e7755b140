"""Defines the settings of the webhooks service."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from services.webhooks.delivery.policy import DisablePolicy, RetryPolicy
from services.webhooks.delivery.ssrf import AddressRules, parse_ports
from shared.runtime.settings import Addresses, ServiceSettings

BACKGROUND_CONNECTIONS = 3
"""Connections of the pool that HTTP leaves free: for the consumer, the delivery worker and the
retention of deliveries.
"""
LEASE_MARGIN_SECONDS = 5.0


def _require_ports(text: str) -> str:
    parse_ports(text)  # raises ValueError
    return text


PortRanges = Annotated[str, AfterValidator(_require_ports)]
"""Ports and ranges of them, with commas."""


class WebhooksSettings(ServiceSettings):
    webhooks_per_workspace: Annotated[int, Field(ge=1, le=1000)] = 20
    """Beyond it 409 `too_many_webhooks`."""
    webhook_body_limit: Annotated[int, Field(ge=1024)] = 16 * 1024
    """Bytes of what is sent to POST /v1/webhooks."""

    event_records: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Records in a batch.

    Most are nobody's, and cost next to nothing: what a batch costs is its fetch, its commit and one
    question.
    """
    event_wait_ms: Annotated[int, Field(ge=1, le=10_000)] = 500
    """How long Kafka holds events back at most, so that more come together.

    Four megabytes of them are enough.
    """

    webhook_attempts: Annotated[int, Field(ge=1, le=50)] = 8
    """Of one delivery; then it has failed."""
    webhook_first_retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 5
    """How long the first retry is put off at most: each pause is a random part of what it could be.
    """
    webhook_retry_factor: Annotated[float, Field(ge=1, le=10)] = 3
    """By which each further pause may be longer than the one before."""
    webhook_longest_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 3600
    """The longest that a pause may be."""
    webhook_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10
    """How long a receiver has for its answer, with looking its name up and connecting."""
    webhook_deliveries_at_once: Annotated[int, Field(ge=1, le=1000)] = 64
    """Requests under way in one process, to all receivers."""
    webhook_deliveries_at_once_each: Annotated[int, Field(ge=1, le=1000)] = 4
    """Of those, to one webhook; after a failure one at a time, until one succeeds."""
    webhook_deliveries_at_once_workspace: Annotated[int, Field(ge=1, le=1000)] = 32
    """Of those, to all webhooks of one workspace."""
    webhook_deliveries_at_once_failing: Annotated[int, Field(ge=1, le=1000)] = 16
    """Of those, to all webhooks whose latest attempt has failed. The others go first."""
    webhook_failures_until_disabled: Annotated[int, Field(ge=1, le=1000)] = 5
    """Deliveries in a row that were given up; then the webhook is disabled. So it is when as many
    attempts as those may have failed in a row, over as long as one delivery's attempts may take.
    """
    webhook_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """How often it is looked for what is due; what has just been written is seen at once."""
    webhook_retention_days: Annotated[float, Field(gt=0, le=365)] = 7
    """How long a delivery is kept, counted from its event, whatever became of it."""

    webhook_allow_private_addresses: bool = False
    """Whether receivers may be anywhere: loopback, private networks, link-local.

    For development.
    """
    webhook_allowed_networks: Addresses = ""
    """Networks that receivers may be in although they are not public, with commas: one's own, as
    10.1.0.0/16.
    """
    webhook_ports: PortRanges = "80,443,1024-65535"
    """Below 1024 speak other protocols, mail for one, that could take a body for commands."""
    webhook_ca_file: str | None = None
    """Certificate authorities that receivers' certificates are checked by, a PEM file; None: the
    system's.
    """

    @model_validator(mode="after")
    def _have_connections_for_all(self) -> Self:
        if self.database_pool_size <= BACKGROUND_CONNECTIONS:
            raise ValueError(f"database_pool_size must be at least {BACKGROUND_CONNECTIONS + 1}")
        return self

    @property
    def lease_seconds(self) -> float:
        """Returns how long a claim lasts: longer than an attempt.

        Then any worker may claim the delivery again.
        """
        return self.webhook_timeout_seconds + LEASE_MARGIN_SECONDS

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(
            attempts=self.webhook_attempts,
            first_seconds=self.webhook_first_retry_seconds,
            factor=self.webhook_retry_factor,
            longest_seconds=self.webhook_longest_retry_seconds,
        )

    @property
    def disable_policy(self) -> DisablePolicy:
        return DisablePolicy.of(self.webhook_failures_until_disabled, self.retry_policy)

    @property
    def address_rules(self) -> AddressRules:
        return AddressRules.of(
            allow_private=self.webhook_allow_private_addresses,
            allowed=self.webhook_allowed_networks,
            ports=self.webhook_ports,
        )
