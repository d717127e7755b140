"""Up to which moment all imports are folded: what lets any replica say that a job does not exist."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from aiokafka import TopicPartition

from shared.messaging.progress import Progress
from shared.topics import TopicName, TopicNames

LOOK_SECONDS = 0.2
"""How often looks are seen to. A whole one must fit into the time that a job is waited for (service.py), begun after it was asked for."""


class Moments(Protocol):
    """The database's clock, and the moments noted by it: replicas' own clocks differ."""

    async def now(self) -> datetime: ...
    async def folded_until(self, partition: int) -> datetime | None: ...
    async def note_folded(self, moments: Mapping[int, datetime]) -> datetime: ...


@dataclass(slots=True)
class _Look:
    """One look at a partition: begun at `moment`, which is `asked_at` by this process's clock; `end` is what stood there soon after."""

    moment: datetime
    asked_at: float
    end: int | None = None


class FoldProgress:
    """Notes, for the partitions of `imports` that this replica folds, that all which stood there at a moment is folded; tells of any.

    A look takes as long as a fetch and the fold of what it shows: at most a second when nothing lags.
    """

    def __init__(self, moments: Moments, progress: Progress, names: TopicNames) -> None:
        self._moments = moments
        self._progress = progress
        self._topic = names[TopicName.IMPORTS]
        self._looks: dict[TopicPartition, _Look] = {}

    async def sweep(self) -> int:
        """Note the looks that have come to their end, and begin new ones. Raises DatabaseUnavailable: they are noted later."""
        assigned = self._progress.assigned(self._topic)
        looks = {partition: look for partition, look in self._looks.items() if partition in assigned}
        ended = [partition for partition, look in looks.items() if await self._has_ended(partition, look)]
        moments = {partition.partition: looks.pop(partition).moment for partition in ended}
        if fresh := assigned - looks.keys():  # those that ended are among them
            # In this order: what is seen later than asked stood there before
            moment, asked_at = await self._moments.note_folded(moments), time.time()
            looks |= {partition: _Look(moment, asked_at) for partition in fresh}
        self._looks = looks
        return 0

    async def _has_ended(self, partition: TopicPartition, look: _Look) -> bool:
        if look.end is None:
            look.end = self._progress.end_of(partition, look.asked_at)
        return look.end is not None and await self._progress.is_past(partition, look.end)

    async def now(self) -> datetime:
        return await self._moments.now()

    async def has_folded(self, job_id: UUID, moment: datetime) -> bool:
        """Whether the job, if it was accepted before `moment`, is folded. False when that can't be told."""
        partition = self._progress.partition_of(self._topic, str(job_id).encode())
        if partition is None:
            return False
        until = await self._moments.folded_until(partition.partition)
        return until is not None and until >= moment
