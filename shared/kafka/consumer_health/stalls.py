"""Finds partitions that stand still although records wait, or whose leader no longer answers.

Does no I/O. The consumer as a whole looks well then: its other partitions move, and Kafka answers
their fetches. So each partition is checked by itself, about once a second.
"""

import time
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import NamedTuple

from aiokafka import TopicPartition

STALLED_AFTER_SECONDS = 60.0
"""Seconds from which a partition that stands still is trouble. A batch takes a few seconds. Kafka
aborts a transaction that its producer left open after 60 s by default."""
SILENCE_SECONDS = 10.0
"""How long a leader may be silent before what it said last counts no more."""


class PartitionProgress(NamedTuple):
    """Holds what a consumer knows of a partition at one moment. None: not known yet."""

    processed: int | None
    """The offset up to which all is processed, or is nothing that a consumer gets to see."""
    end: int | None
    """The high watermark in the last answer to a fetch. It lies behind open transactions."""
    answer: int | None
    """That answer's timestamp. Only whether it changes counts, so the wall clock may jump."""
    is_held: bool = False
    """Whether a transaction that an upstream system has left open hides all that waits."""
    is_fetched: bool = False
    """Whether records of it are fetched and wait for their turn.

    Until then it is not fetched again.
    """

    @property
    def is_at_end(self) -> bool:
        """Whether nothing waited when the last fetch was answered."""
        return self.processed is not None and self.end is not None and self.processed >= self.end


class Stall(NamedTuple):
    """Names a partition that stands still, and for how long."""

    partition: TopicPartition
    seconds: float
    is_silent: bool
    """Whether its leader does not answer. Otherwise records wait."""
    is_held: bool = False
    """Whether they wait behind an upstream system's open transaction: no fault of this process."""

    def __str__(self) -> str:
        name = f"{self.partition.topic}/{self.partition.partition}"
        seconds = f"{self.seconds:.0f} s"
        if self.is_silent:
            return f"{name} has had no answer to a fetch for {seconds} although others have"
        return f"{name} has stood still for {seconds} although records wait"


class _PartitionHistory:
    """Keeps a partition's last reading, when it last moved and when its leader last answered."""

    __slots__ = ("answered_at", "moved_at", "partition", "reading")

    def __init__(self, partition: TopicPartition, reading: PartitionProgress, now: float) -> None:
        self.partition = partition
        self.reading = reading
        self.moved_at = now
        self.answered_at = now

    def update(self, reading: PartitionProgress, now: float, *, others_move: bool) -> None:
        """Compares a new reading with the last one.

        A consumer processes what it has fetched of one partition before it goes on with the next:
        while others move, a partition whose records are fetched waits for its turn and does not
        stand still.
        """
        if reading.processed is None:  # as in a rebalance, which moves nothing
            reading = reading._replace(processed=self.reading.processed)
        if reading.answer != self.reading.answer or (reading.is_fetched and others_move):
            self.answered_at = now
        if reading.processed != self.reading.processed or (reading.is_fetched and others_move):
            self.moved_at = now
        elif reading.is_at_end:
            self.moved_at = max(self.moved_at, self.answered_at)
        self.reading = reading

    def stall(self, answered_at: float, now: float) -> Stall:
        """Returns for how long it stands still. `answered_at`: when any leader last answered."""
        silent = answered_at - self.answered_at
        waits = self.reading.end is not None and not self.reading.is_at_end
        stood = now - self.moved_at if waits else 0.0
        return Stall(
            self.partition,
            max(stood, silent),
            is_silent=silent > stood,
            is_held=self.reading.is_held and silent < SILENCE_SECONDS,
        )


class StallDetector:
    """Remembers when each partition of a consumer last moved. Fed by ConsumerHealth."""

    def __init__(
        self,
        *,
        after: float = STALLED_AFTER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`after`: seconds from which `longest` reports a stall."""
        self._after = after
        self._clock = clock
        self._watched: dict[TopicPartition, _PartitionHistory] = {}
        self._stalls: dict[TopicPartition, Stall] = {}

    def observe(self, readings: Mapping[TopicPartition, PartitionProgress]) -> None:
        """Takes the readings of all partitions that are assigned and not paused.

        A partition that is new among them begins to be watched; one that is missing is forgotten.
        """
        now = self._clock()
        for partition in self._watched.keys() - readings.keys():
            del self._watched[partition]
        moves = {
            partition for partition, reading in readings.items() if self._moves(partition, reading)
        }
        for partition, reading in readings.items():
            if partition in self._watched:
                self._watched[partition].update(reading, now, others_move=bool(moves - {partition}))
            else:
                self._watched[partition] = _PartitionHistory(partition, reading, now)
        # While Kafka answers nobody, no partition is worse off than the others
        answers = (watched.answered_at for watched in self._watched.values())
        answered_at = max(answers, default=now)
        stalls = [watched.stall(answered_at, now) for watched in self._watched.values()]
        self._stalls = {stall.partition: stall for stall in stalls}

    def _moves(self, partition: TopicPartition, reading: PartitionProgress) -> bool:
        watched = self._watched.get(partition)
        return (
            watched is not None
            and reading.processed is not None
            and reading.processed != watched.reading.processed
        )

    def reset(self) -> None:
        """Forgets all partitions: the consumer itself chose to wait."""
        self._watched = {}
        self._stalls = {}

    def seconds(self, partition: TopicPartition) -> float:
        """Returns for how long a partition had stood still at the last look; 0 if it had not."""
        return self._stalls[partition].seconds if partition in self._stalls else 0.0

    def longest(self) -> Stall | None:
        """Returns the longest stall at the last look, if it has lasted for `after` seconds.

        Leaves out partitions that an upstream system holds: making this process unready would not
        help them.
        """
        stalls = (stall for stall in self._stalls.values() if not stall.is_held)
        stall = max(stalls, key=attrgetter("seconds"), default=None)
        return stall if stall is not None and stall.seconds >= self._after else None
