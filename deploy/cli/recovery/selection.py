"""Names the services that store positions, and selects among their partitions. Does no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.contract.topics import TopicName


class Service(StrEnum):
    """The services that store positions. Their database schemas have the same names."""

    PUBLISHER = "publisher"
    STATUS = "status"
    WEBHOOKS = "webhooks"


class Source(StrEnum):
    """The topics that have stored positions."""

    IMPORTS = TopicName.IMPORTS
    OUTCOMES = TopicName.OUTCOMES
    PIN_EVENTS = TopicName.PIN_EVENTS
    JOB_EVENTS = TopicName.JOB_EVENTS


SOURCES: Mapping[Service, tuple[TopicName, ...]] = {
    Service.PUBLISHER: (TopicName.IMPORTS, TopicName.OUTCOMES),
    Service.STATUS: (TopicName.IMPORTS, TopicName.OUTCOMES),
    Service.WEBHOOKS: (TopicName.PIN_EVENTS, TopicName.JOB_EVENTS),
}
WITHOUT_GROUP = {(Service.PUBLISHER, TopicName.OUTCOMES)}
"""Read outside of the service's consumer group: Kafka has no committed offset there."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The partitions that an operator means. None selects all."""

    service: Service | None = None
    topic: Source | None = None
    partition: int | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether it leaves partitions out."""
        return self != Selection()

    def takes(self, service: Service, topic: TopicName, partition: int) -> bool:
        """Tells whether a partition is selected."""
        return (
            (self.service is None or self.service is service)
            and (self.topic is None or self.topic.value == topic.value)
            and (self.partition is None or self.partition == partition)
        )
