"""Defines a limit of the rate meter, which the publisher tells ingest, and ingest its clients."""

from shared.http.models import ApiModel


class RateMeterNode(ApiModel):
    """A limit on rows that are accepted and not settled yet, or on pins sent to Pinterest."""

    tokens_available: float
    """Rows that may still be accepted now, or pins that may be sent now."""
    capacity: float
    """The limit. It equals `tokens_available` while no row waits, or no pin was sent lately."""
    refill_rate: float
    """Rows that were settled per second, as last measured, 0 while unknown. For Pinterest: pins
    that may be sent per second."""
