"""Names the services and topics with stored positions, and filters partitions. Does no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.contract.topics import TopicName


class PositionOwner(StrEnum):
    """The services that store positions. Their database schemas have the same names."""

    PUBLISHER = "publisher"
    STATUS = "status"
    WEBHOOKS = "webhooks"


class PositionTopic(StrEnum):
    """The topics that have stored positions."""

    IMPORTS = TopicName.IMPORTS
    OUTCOMES = TopicName.OUTCOMES
    PIN_EVENTS = TopicName.PIN_EVENTS
    JOB_EVENTS = TopicName.JOB_EVENTS
    DELIVERIES = TopicName.DELIVERIES


POSITION_TOPICS: Mapping[PositionOwner, tuple[TopicName, ...]] = {
    PositionOwner.PUBLISHER: (TopicName.IMPORTS, TopicName.OUTCOMES, TopicName.DELIVERIES),
    PositionOwner.STATUS: (TopicName.IMPORTS, TopicName.OUTCOMES),
    PositionOwner.WEBHOOKS: (TopicName.PIN_EVENTS, TopicName.JOB_EVENTS),
}
WITHOUT_GROUP = {
    (PositionOwner.PUBLISHER, TopicName.OUTCOMES),
    (PositionOwner.PUBLISHER, TopicName.DELIVERIES),
}
"""Topics that a service reads without a consumer group, so that Kafka has no committed offset."""
RESTARTING = {(PositionOwner.PUBLISHER, TopicName.OUTCOMES)}
"""Topics that a service reads again from the log's beginning if its position does not fit the log.
"""


@dataclass(frozen=True, slots=True)
class PartitionFilter:
    """The partitions that an operator selects. A field that is None selects all."""

    service: PositionOwner | None = None
    topic: PositionTopic | None = None
    partition: int | None = None

    def matches(self, service: PositionOwner, topic: TopicName, partition: int) -> bool:
        """Returns whether a partition is selected."""
        return (
            (self.service is None or self.service is service)
            and (self.topic is None or self.topic.value == topic.value)
            and (self.partition is None or self.partition == partition)
        )
