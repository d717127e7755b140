"""Defines the settings of the status service."""

from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from shared.contract.import_limits import MAX_IMPORT_BODY_BYTES, MEBIBYTE
from shared.pinterest.settings import PinterestModeSettings
from shared.runtime.settings import (
    ListSettings,
    PublisherUrlSettings,
    ServiceSettings,
    UploadSettings,
    Urls,
)

FOLD_BURST = 6
"""Batches that are folded without delay after an idle time.

A single import needs fewer batches, so its results are visible as soon as possible.
"""
BACKGROUND_CONNECTIONS = 4
"""Database connections for everything other than HTTP.

They serve the consumer, the announcer, the upload cleaner and the readiness check.
"""


class WatchedService(NamedTuple):
    """Another service whose readiness is part of /readyz."""

    name: str
    urls: str
    is_required: bool = True
    """If a service that is not required is down, Pinflow is degraded but ready."""


class StatusSettings(
    PinterestModeSettings, ServiceSettings, ListSettings, UploadSettings, PublisherUrlSettings
):
    fold_records: Annotated[int, Field(ge=1, le=2000)] = 200
    """Maximum records in a batch. One record can have more than 200 results.

    The number of results in one transaction has a fixed limit, whatever this setting is.
    """
    folds_per_second: Annotated[float, Field(ge=1, le=1000)] = 30
    """Maximum average number of batches a second. A batch after a full one is not delayed.

    Fewer and larger batches cost less CPU time, but results become visible later. After an idle
    time the first few batches are not delayed.
    """
    ingest_url: Urls = "http://127.0.0.1:8001"
    """URL of ingest. The gateway's /readyz includes the /readyz of ingest.

    Separate the URLs of several replicas with commas. For /readyz, one ready replica is enough.
    List all of them: each is also asked whether an import that status does not know may still
    arrive.
    """
    webhooks_url: Urls = "http://127.0.0.1:8004"
    """URL of webhooks, in the same form."""
    delivery_url: Urls = "http://127.0.0.1:8006"
    """URL of the delivery process, in the same form. Not used while PINFLOW_PINTEREST_MODE is
    `off`."""
    retry_body_limit: Annotated[int, Field(ge=1024, le=MAX_IMPORT_BODY_BYTES)] = MEBIBYTE
    """Maximum bytes of the corrections with which failed rows are imported again."""
    announce_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """Seconds between two searches for completed jobs.

    A fold that completes a job also starts a search.
    """
    announce_limit: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Maximum jobs that one transaction announces."""

    @property
    def watched_services(self) -> tuple[WatchedService, ...]:
        """The services whose readiness /readyz includes.

        A test compares them with deploy/services.py.
        """
        # Without the delivery process, pins for Pinterest wait in Postgres
        delivery = WatchedService("delivery", self.delivery_url, is_required=False)
        return (
            WatchedService("ingest", self.ingest_url),
            WatchedService("publisher", self.publisher_url),
            WatchedService("access", self.access_url, is_required=False),
            # While webhooks is down, its events wait in Kafka
            WatchedService("webhooks", self.webhooks_url, is_required=False),
            *((delivery,) if self.is_pinterest_on else ()),
        )

    @model_validator(mode="after")
    def _require_enough_connections(self) -> Self:
        if self.database_pool_size <= BACKGROUND_CONNECTIONS:
            raise ValueError(
                f"PINFLOW_DATABASE_POOL_SIZE must be at least {BACKGROUND_CONNECTIONS + 1}"
            )
        return self
