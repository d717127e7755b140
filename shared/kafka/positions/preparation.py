"""Defines a service's own work before its partitions start."""

from aiokafka import TopicPartition


class Preparation:
    """Runs a service's own work before its partitions start and while they are consumed.

    Called by PositionTracker. Every method may raise Unavailable.
    """

    async def offsets_to_take_over(self) -> dict[TopicPartition, int]:
        """Returns positions of the service's own topics, which its consumer group does not read.

        Called once, after an upgrade from a release that stored no positions in Postgres.
        """
        return {}

    async def catch_up(self) -> None:
        """Runs each time positions were read, before the partitions start."""

    async def run_periodic_work(self) -> None:
        """Runs about every 2 s while partitions are consumed, unless a batch is in flight then.

        Raises PositionBehind.
        """
