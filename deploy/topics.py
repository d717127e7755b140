"""Creates the topics: `pinflow topics create`, and `make up`."""

from typing import NamedTuple

from deploy.old_topics import require_drained
from shared.kafka import admin
from shared.kafka.admin import CreatedTopics
from shared.runtime.settings import KafkaSettings


class TopicCreation(NamedTuple):
    topics: CreatedTopics
    drained: list[str]
    """Old topics that nothing reads any more and in which nothing waits."""


async def create_topics(settings: KafkaSettings) -> TopicCreation:
    """Creates the missing topics, if those of the version before are drained.

    Raises NotDrained, having created nothing, and BrokerUnavailable.
    """
    drained = await require_drained(settings)
    return TopicCreation(await admin.create_topics(settings), drained)


def describe_creation(created: TopicCreation) -> list[str]:
    """Says which topics differ from the setting, and which old topics can go."""
    old = [
        f"{name} is drained and nothing reads it any more: it can be deleted."
        for name in created.drained
    ]
    return [*describe_differences(created.topics), *old]


def describe_differences(topics: CreatedTopics) -> list[str]:
    """Says which topics have another number of partitions than the setting asks for."""
    return [
        f"{name} has {has} partitions, not {asked} as PINFLOW_TOPIC_PARTITIONS says: left as it is "
        "(see deploy/README.md, Partitions)."
        for name, (has, asked) in sorted(topics.partition_mismatches.items())
    ]
