"""Defines a service's own work before its partitions start."""

from aiokafka import TopicPartition


class Preparation:
    """Runs a service's own work before its partitions start and while they are consumed.

    Called by PositionTracker. Every method may raise Unavailable.
    """

    async def offsets_to_take_over(self) -> dict[TopicPartition, int]:
        """Returns further positions to store when the group's committed offsets are taken over."""
        return {}

    async def catch_up(self) -> None:
        """Runs each time positions were read, before the partitions start."""

    async def run_periodic_work(self) -> None:
        """Runs about every 2 s while partitions are consumed. Raises PositionBehind."""
