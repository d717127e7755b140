"""What the status service can be told."""

from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from shared.runtime.settings import ListSettings, ServiceSettings, UploadSettings, Urls

FOLDS_AT_ONCE = 6
"""As many as an import alone becomes, and some: its results are seen as soon as they can be."""
BACKGROUND_CONNECTIONS = 4
"""Of the pool, for what is not HTTP: the consumer, the announcer, the cleaner, and the check of
readiness."""


class WatchedService(NamedTuple):
    """Another service, whose readiness is part of the whole's."""

    name: str
    urls: str
    is_required: bool = True
    """Without a service that is not required Pinflow is degraded, but ready."""


class StatusSettings(ServiceSettings, ListSettings, UploadSettings):
    fold_records: Annotated[int, Field(ge=1, le=2000)] = 200
    """Records in a batch, each with up to 200 results and more.

    What they are folded by is bounded apart (MAX_FOLDED_ROWS).
    """
    folds_per_second: Annotated[float, Field(ge=1, le=1000)] = 30
    """Batches a second in the long run, but for those that are full: fewer and larger ones cost
    less, and let results wait. The first few after a rest (FOLDS_AT_ONCE) come at once.
    """
    ingest_url: Urls = "http://127.0.0.1:8001"
    """Where ingest answers /readyz; asked by this service's own, which is the gateway's. Several
    replicas with commas: one that does its work is enough.
    """
    publisher_url: Urls = "http://127.0.0.1:8002"
    """The same of the publisher."""
    webhooks_url: Urls = "http://127.0.0.1:8004"
    """The same of webhooks."""
    announce_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """How often jobs that ended are looked for; a fold that ends one wakes the task at once."""
    announce_limit: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Jobs announced in one transaction."""

    @property
    def watched_services(self) -> tuple[WatchedService, ...]:
        """The services that /readyz asks. A test compares them with deploy/services.py."""
        return (
            WatchedService("ingest", self.ingest_url),
            WatchedService("publisher", self.publisher_url),
            WatchedService("access", self.access_url, is_required=False),
            # Events wait for it in Kafka
            WatchedService("webhooks", self.webhooks_url, is_required=False),
        )

    @model_validator(mode="after")
    def _have_connections_for_all(self) -> Self:
        if self.database_pool_size <= BACKGROUND_CONNECTIONS:
            raise ValueError(f"database_pool_size must be at least {BACKGROUND_CONNECTIONS + 1}")
        return self
