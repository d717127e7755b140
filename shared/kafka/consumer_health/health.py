"""Watches a consumer: its partitions, Kafka's answers, and its progress."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contract.errors import Unavailable
from shared.kafka.admin import require_topics
from shared.kafka.aiokafka_internals import is_consumer_dead
from shared.kafka.consumer_health.progress import Progress
from shared.kafka.consumer_health.stalls import STALLED_AFTER_SECONDS, StallDetector
from shared.runtime import metrics
from shared.runtime.settings import KafkaSettings

SILENT_AFTER_SECONDS = 30.0
"""After this time without an answer to a fetch, or without an assignment, a consumer is silent."""
KAFKA_CHECK_SECONDS = 10.0
"""The time between two checks of whether Kafka answers this consumer."""
PROGRESS_CHECK_SECONDS = 1.0
"""The time between two checks for a dead client and for stalled partitions."""
MAX_SILENCES = 3
"""A consumer that is silent at this many consecutive checks, while Kafka answers others, is lost.
"""


class ConsumerLost(Exception):
    """This consumer can't continue. A new process resumes after the last acknowledged batch."""


class ConsumerHealth:
    """Decides whether one consumer works. BatchConsumer reports events to it and runs `watch`."""

    def __init__(
        self,
        *,
        name: str,
        title: str,
        settings: KafkaSettings,
        consumer: Callable[[], AIOKafkaConsumer | None],
        progress: Progress,
        idle: asyncio.Event,
        is_paused: Callable[[], bool],
        last_paused_at: Callable[[], float],
        stalled_after_seconds: float = STALLED_AFTER_SECONDS,
    ) -> None:
        """Receives the parts of the consumer that it watches.

        `idle` is set while no batch is processed. `is_paused` returns whether all partitions are
        paused, for a server or for an operator. `last_paused_at`: see PauseWhenUnused. A partition
        that makes no progress for `stalled_after_seconds` is a problem.
        """
        self._name = name
        self._title = title
        self._settings = settings
        self._consumer = consumer
        self._progress = progress
        self._idle = idle
        self._is_paused = is_paused
        self._last_paused_at = last_paused_at
        self._stall_detector = StallDetector(after_seconds=stalled_after_seconds)
        self._lost = asyncio.Event()
        self._reason = ""
        self._unanswered_commits = 0
        self._ready_since: float | None = None
        self._unready_since = time.time()
        self._labeled: set[TopicPartition] = set()

    # Events of the consumer

    def on_assigned(self) -> None:
        """Records that the group has assigned this member its partitions, possibly none."""
        self._ready_since = time.time()

    def on_revoked(self) -> None:
        """Records that this member has no partitions until the next assignment."""
        self._ready_since = None
        self._unready_since = time.time()

    def on_commit_timeout(self) -> None:
        """Records that Kafka did not answer a commit in time."""
        self._unanswered_commits += 1

    def on_commit_answer(self) -> None:
        """Records that Kafka answered a commit, or that the batch was skipped."""
        self._unanswered_commits = 0

    def on_capacity_wait(self) -> None:
        """Records that the consumer waits for capacity, which is no stall."""
        self._stall_detector.reset()

    def give_up(self, reason: str) -> None:
        """Makes `watch` raise ConsumerLost, which ends the process."""
        self._reason = reason
        self._ready_since = None
        self._lost.set()

    # Problems, for readiness

    def membership_problem(self) -> str | None:
        """Returns why this consumer has no partitions, or None."""
        if self._lost.is_set():
            return f"lost: {self._reason}"
        return "no partitions assigned yet" if self._ready_since is None else None

    def progress_problem(self) -> str | None:
        """Returns why a partition or the whole consumer makes no progress, or None."""
        if (stall := self._stall_detector.longest()) is not None:
            return str(stall)
        return "no answer from Kafka" if self._is_silent() else None

    def _is_silent(self) -> bool:
        if self._is_paused():
            return False
        # A member without partitions fetches nothing: count from when it lost them
        polled_at = max(self._progress.last_polled_at(), self._last_paused_at())
        answered_at = (
            self._unready_since if self._ready_since is None else max(self._ready_since, polled_at)
        )
        return self._unanswered_commits > 0 or (
            self._idle.is_set() and time.time() - answered_at > SILENT_AFTER_SECONDS
        )

    # The watch

    async def watch(self) -> None:
        """Watches until the consumer is lost, then raises ConsumerLost.

        It is lost if a fetch failed for good, if its loop ended, if its Kafka client is dead, or if
        it is silent although Kafka answers other clients.
        """
        self._unready_since = time.time()
        silent_checks = 0
        try:
            while not await self._is_lost_within(KAFKA_CHECK_SECONDS):
                silent_checks = (
                    silent_checks + 1 if self._is_silent() and await self._can_reach_kafka() else 0
                )
                if silent_checks >= MAX_SILENCES:
                    self.give_up("got no answer from Kafka although it answers other clients")
        finally:
            self._show_stalls(set())
        raise ConsumerLost(f"{self._title}: {self._reason}")

    async def _is_lost_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._lost.is_set() and time.monotonic() < deadline:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, PROGRESS_CHECK_SECONDS)):
                    await self._lost.wait()
            if is_consumer_dead(self._consumer()):
                self.give_up("its Kafka client has died")
            else:
                await self.observe_progress()
        return self._lost.is_set()

    async def observe_progress(self) -> None:
        """Looks for stalled partitions, and sets their metrics."""
        self._stall_detector.observe(await self._progress.read_partitions())
        consumer = self._consumer()
        self._show_stalls(consumer.assignment() if consumer else set())

    async def _can_reach_kafka(self) -> bool:
        try:
            await require_topics(self._settings)
        except (Unavailable, KafkaError, OSError):
            return False
        return True

    def _show_stalls(self, assigned: set[TopicPartition]) -> None:
        gauge = metrics.PARTITION_STALLED_SECONDS
        for partition in self._labeled - assigned:
            gauge.remove(self._name, partition.topic, partition.partition)
        for partition in assigned:
            labels = (self._name, partition.topic, partition.partition)
            gauge.labels(*labels).set(self._stall_detector.seconds(partition))
        self._labeled = set(assigned)
