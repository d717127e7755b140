"""Detects stalled partitions: records wait but none are processed, or the leader does not answer.

Does no I/O. Each partition is checked separately, about once per second: a consumer looks healthy
while its other partitions make progress.
"""

import time
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import NamedTuple

from aiokafka import TopicPartition

STALLED_AFTER_SECONDS = 60.0
"""A partition without progress for this time is a problem. A batch takes a few seconds. By default,
Kafka aborts a transaction that is open for 60 s."""
SILENCE_SECONDS = 10.0
"""After this time without an answer, the state that a leader last reported is outdated."""


class PartitionProgress(NamedTuple):
    """A partition's state at one moment. A value is None if it is not known yet."""

    processed: int | None
    """The offset up to which everything is processed or invisible to the consumer."""
    end: int | None
    """The high watermark in the last answer to a fetch. It includes open transactions."""
    answered_at_ms: int | None
    """The timestamp of that answer. Only compared for equality, so the wall clock may jump."""
    is_behind_transaction: bool = False
    """True if all waiting records are behind an open transaction of an upstream system."""
    is_fetched: bool = False
    """True if fetched records wait in the client. aiokafka fetches more after they are taken."""

    @property
    def is_at_end(self) -> bool:
        """True if no records waited at the last answer to a fetch."""
        return self.processed is not None and self.end is not None and self.processed >= self.end


class Stall(NamedTuple):
    """A partition without progress, and the duration."""

    partition: TopicPartition
    seconds: float
    is_silent: bool
    """True if its leader does not answer. Otherwise records wait."""
    is_behind_transaction: bool = False
    """True if they wait for an upstream system's transaction, which is no fault of this process."""

    def __str__(self) -> str:
        name = f"{self.partition.topic}/{self.partition.partition}"
        seconds = f"{self.seconds:.0f} s"
        if self.is_silent:
            return (
                f"{name} has had no answer to a fetch for {seconds} although other partitions have"
            )
        return f"{name} has made no progress for {seconds} although records wait"


class _PartitionHistory:
    """Holds a partition's last state, and the times of its last progress and last answer."""

    __slots__ = ("answered_at", "partition", "progressed_at", "state")

    def __init__(self, partition: TopicPartition, state: PartitionProgress, now: float) -> None:
        self.partition = partition
        self.state = state
        self.progressed_at = now
        self.answered_at = now

    def update(
        self, state: PartitionProgress, now: float, *, other_partitions_progress: bool
    ) -> None:
        """Compares a new state with the last one.

        A consumer processes the fetched records of one partition after those of another. So a
        partition with fetched records is not stalled while others make progress: it waits for its
        turn.
        """
        if state.processed is None:  # unknown in a rebalance, which is no progress
            state = state._replace(processed=self.state.processed)
        if state.answered_at_ms != self.state.answered_at_ms or (
            state.is_fetched and other_partitions_progress
        ):
            self.answered_at = now
        if state.processed != self.state.processed or (
            state.is_fetched and other_partitions_progress
        ):
            self.progressed_at = now
        elif state.is_at_end:
            self.progressed_at = max(self.progressed_at, self.answered_at)
        self.state = state

    def stall(self, answered_at: float, now: float) -> Stall:
        """Returns the stall so far. `answered_at` is the time of any leader's last answer."""
        silent = answered_at - self.answered_at
        waits = self.state.end is not None and not self.state.is_at_end
        stalled = now - self.progressed_at if waits else 0.0
        return Stall(
            self.partition,
            max(stalled, silent),
            is_silent=silent > stalled,
            is_behind_transaction=self.state.is_behind_transaction and silent < SILENCE_SECONDS,
        )


class StallDetector:
    """Tracks when each partition of a consumer last made progress. Called by ConsumerHealth."""

    def __init__(
        self,
        *,
        after_seconds: float = STALLED_AFTER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reports a stall in `longest` after `after_seconds`."""
        self._after_seconds = after_seconds
        self._clock = clock
        self._histories: dict[TopicPartition, _PartitionHistory] = {}
        self._stalls: dict[TopicPartition, Stall] = {}

    def observe(self, states: Mapping[TopicPartition, PartitionProgress]) -> None:
        """Compares the states of all partitions that are assigned and not paused.

        Begins to track new partitions, and forgets missing ones.
        """
        now = self._clock()
        for partition in self._histories.keys() - states.keys():
            del self._histories[partition]
        progressing = {
            partition
            for partition, state in states.items()
            if self._has_progressed(partition, state)
        }
        for partition, state in states.items():
            if partition in self._histories:
                self._histories[partition].update(
                    state, now, other_partitions_progress=bool(progressing - {partition})
                )
            else:
                self._histories[partition] = _PartitionHistory(partition, state, now)
        # A silent leader is a stall only if other leaders answer
        answers = (history.answered_at for history in self._histories.values())
        answered_at = max(answers, default=now)
        stalls = [history.stall(answered_at, now) for history in self._histories.values()]
        self._stalls = {stall.partition: stall for stall in stalls}

    def _has_progressed(self, partition: TopicPartition, state: PartitionProgress) -> bool:
        history = self._histories.get(partition)
        return (
            history is not None
            and state.processed is not None
            and state.processed != history.state.processed
        )

    def reset(self) -> None:
        """Forgets all partitions, because the consumer waits on purpose."""
        self._histories = {}
        self._stalls = {}

    def seconds(self, partition: TopicPartition) -> float:
        """Returns the seconds of a partition's stall at the last `observe`, or 0."""
        return self._stalls[partition].seconds if partition in self._stalls else 0.0

    def longest(self) -> Stall | None:
        """Returns the longest stall at the last `observe`, if it lasted for `after_seconds`.

        Ignores partitions behind an open transaction. Reporting this process as not ready would not
        help them.
        """
        stalls = (stall for stall in self._stalls.values() if not stall.is_behind_transaction)
        stall = max(stalls, key=attrgetter("seconds"), default=None)
        return stall if stall is not None and stall.seconds >= self._after_seconds else None
