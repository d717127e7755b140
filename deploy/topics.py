"""Make the topics: `pinflow topics create`."""

from shared.messaging.admin import create_topics

__all__ = ["create_topics"]
