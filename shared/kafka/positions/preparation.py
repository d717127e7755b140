"""Defines what a service may do before its partitions start."""

from aiokafka import TopicPartition


class Preparation:
    """Runs a service's own work before its partitions start and while they are consumed.

    Called by PositionTracker. Every method may raise Unavailable.
    """

    async def offsets_to_take_over(self) -> dict[TopicPartition, int]:
        """Returns positions to store in addition to the group's committed offsets."""
        return {}

    async def catch_up(self) -> None:
        """Runs after each reading of the positions, before partitions start."""

    async def run_periodic_work(self) -> None:
        """Runs about every 2 s while partitions are consumed. Raises PositionBehind."""
