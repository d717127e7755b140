"""Creates the topics for `pinflow topics create` and `make up`."""

from typing import NamedTuple

from deploy.old_topics import require_drained
from shared.contract.topics import TOPICS
from shared.kafka import admin
from shared.kafka.admin import CreatedTopics
from shared.runtime.settings import KafkaSettings


class TopicCreation(NamedTuple):
    """The topics of this version, and the old topics that can be deleted."""

    topics: CreatedTopics
    drained: list[str]
    """Old topics without a reader and without unprocessed records."""


async def create_topics(settings: KafkaSettings) -> TopicCreation:
    """Creates the missing topics if the topics of the previous version are drained.

    Raises BrokerUnavailable, and NotDrained before anything is created.
    """
    drained = await require_drained(settings)
    return TopicCreation(await admin.create_topics(settings), drained)


def describe_creation(created: TopicCreation) -> list[str]:
    """Lists the topics that differ from the setting, and the old topics that can be deleted."""
    old = [f"{name} is drained and no longer used. You can delete it." for name in created.drained]
    return [*describe_differences(created.topics), *old]


def describe_differences(topics: CreatedTopics) -> list[str]:
    """Lists the topics that have another number of partitions than new ones would have."""
    return [
        _describe_difference(name, actual, expected)
        for name, (actual, expected) in sorted(topics.partition_mismatches.items())
    ]


def _describe_difference(full_name: str, actual: int, expected: int) -> str:
    fixed = [f".{topic.name}.v{topic.version}" for topic in TOPICS if topic.partitions]
    if full_name.endswith(tuple(fixed)):
        return (
            f"{full_name} has {actual} partitions, not {expected} as `pinflow topics create` gives "
            "it. There is nothing to do: it works with any number."
        )
    return (
        f"{full_name} has {actual} partitions, not {expected} as in PINFLOW_TOPIC_PARTITIONS. The "
        "topic was not changed. See docs/how-to/run-in-production.md, Add partitions."
    )
