"""Make the topics: `pinflow topics create`, and `make up`."""

from shared.messaging.admin import Topics, create_topics

__all__ = ["create_topics", "differences"]


def differences(topics: Topics) -> list[str]:
    """What to say of those that have another number of partitions than the setting asks for."""
    return [
        f"{name} has {has} partitions, not {asked} as PINFLOW_TOPIC_PARTITIONS says: left as it is (see deploy/README.md, Partitions)."
        for name, (has, asked) in sorted(topics.kept.items())
    ]
