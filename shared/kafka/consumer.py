"""Consumes a subscription in batches, at least once.

A batch is acknowledged after its work is durable. After any failure, the consumer seeks back to the
start of the batch and retries it (failure_policy.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from operator import attrgetter
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError
from aiolimiter import AsyncLimiter

from shared.contract.topics import TopicName, TopicNames
from shared.kafka.batch_fetcher import BatchFetcher
from shared.kafka.batch_processor import BatchProcessor
from shared.kafka.batches import Batch, BatchHandler
from shared.kafka.broker import GroupMember
from shared.kafka.consumer_health.health import ConsumerHealth
from shared.kafka.consumer_health.progress import Progress
from shared.kafka.consumer_health.stalls import STALLED_AFTER_SECONDS
from shared.kafka.failure_policy import FailurePolicy, ReadPositionsAgain, WaitForCapacity
from shared.kafka.idle_committer import IdleCommitter
from shared.kafka.pause_when_unused import PauseWhenUnused, always
from shared.kafka.positions.preparation import Preparation
from shared.kafka.positions.store import PositionStore
from shared.kafka.positions.tracker import PositionTracker
from shared.kafka.producer import RecordSender
from shared.kafka.rebalance_listener import RebalanceListener
from shared.kafka.retry_backoff import RetryBackoff
from shared.kafka.subscription import Acknowledgement, Subscription
from shared.runtime import metrics
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

_timestamp = attrgetter("timestamp")


class BatchConsumer:
    """Fetches batches, has them processed, and reports its health."""

    def __init__(
        self,
        subscription: Subscription,
        settings: ServiceSettings,
        handler: BatchHandler[Any],
        producer: RecordSender,
        *,
        member: int = 0,
        rate_limit: AsyncLimiter | None = None,
        is_wanted: Callable[[], Awaitable[bool]] = always,
        positions: PositionStore | None = None,
        preparation: Preparation | None = None,
        stalled_after_seconds: float = STALLED_AFTER_SECONDS,
    ) -> None:
        """Builds the parts of a consumer. Joins no group before `start`.

        `member` numbers the consumers of one group in one process. `rate_limit` limits how often
        batches begin. `is_wanted` returns whether anything uses the records (see PauseWhenUnused).
        `positions` stores the positions. `preparation` is the service's work before partitions
        start. A partition that makes no progress for `stalled_after_seconds` is a problem.

        Raises ValueError if `positions` do not fit the subscription's acknowledgement.
        """
        if subscription.has_positions != (positions is not None):
            rule = Acknowledgement.POSITION_WITH_WORK
            raise ValueError(f"{subscription.name}: pass `positions` if and only if it uses {rule}")
        self.name = subscription.name
        self.title = f"{self.name}.{member}" if member else self.name
        self.names = TopicNames(settings.topic_prefix)
        self._stop_seconds = settings.stop_timeout_seconds
        self._stopping = False
        self._loop: asyncio.Task[None] | None = None
        self._oldest: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._policy = FailurePolicy(settings.consumer_poison_limit)
        self._retry_backoff = RetryBackoff(self.name, self.title, member)
        self._tracker = (
            PositionTracker(
                positions,
                settings,
                service=self.name,
                consumer=self._consumer,
                preparation=preparation,
            )
            if positions is not None
            else None
        )
        self.progress = Progress(self._consumer)
        self.pause_when_unused = PauseWhenUnused(
            self._consumer, is_wanted, self._forget_failures, self._tracker
        )
        self.health = ConsumerHealth(
            name=self.name,
            title=self.title,
            settings=settings,
            consumer=self._consumer,
            progress=self.progress,
            idle=self._idle,
            is_paused=lambda: self._tracker is not None and self._tracker.is_waiting,
            last_paused_at=self.pause_when_unused.last_paused_at,
            stalled_after_seconds=stalled_after_seconds,
        )
        self.idle_committer = IdleCommitter(
            title=self.title,
            consumer=self._consumer,
            progress=self.progress,
            idle=self._idle,
            tracker=self._tracker,
            position_behind=self._read_positions_again,
        )
        self.rebalance_listener = RebalanceListener(
            title=self.title,
            idle=self._idle,
            health=self.health,
            retry_backoff=self._retry_backoff,
            tracker=self._tracker,
        )
        self._member = GroupMember(
            subscription, settings, number=member, listener=self.rebalance_listener
        )
        self.group, self.group_instance_id = self._member.group, self._member.instance_id
        self._fetcher = BatchFetcher(
            self._member,
            title=self.title,
            max_records=subscription.max_records,
            progress=self.progress,
            health=self.health,
            tracker=self._tracker,
            rate_limit=rate_limit,
        )
        self._processor = BatchProcessor(
            handler,
            producer,
            service=self.name,
            title=self.title,
            dead_letters=self.names[TopicName.DEAD_LETTERS],
            consumer=self._consumer,
            policy=self._policy,
            health=self.health,
            tracker=self._tracker,
        )
        metrics.OLDEST_UNPROCESSED_SECONDS.labels(self.name, member).set_function(
            self.oldest_unprocessed_seconds
        )

    def _consumer(self) -> AIOKafkaConsumer | None:
        return self._member.consumer

    # Lifecycle, called by the service's runtime

    async def start(self) -> None:
        """Joins the group and waits for partitions, without a limit. Consumes in the background."""
        await self._member.start()
        self._loop = asyncio.create_task(self._consume(), name=f"{self.title} batches")
        self._loop.add_done_callback(self._loop_ended)

    def interrupt(self) -> None:
        """Ends a backoff at once, because the process stops. The batch stays uncommitted."""
        self._stopping = True
        self._retry_backoff.interrupt()
        if self._tracker is not None:
            self._tracker.stop()

    async def stop(self) -> None:
        """Finishes the batch in flight within the stop timeout, then disconnects from Kafka."""
        self.interrupt()
        if self._loop is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._stop_seconds):
                    await self._idle.wait()
            self._loop.cancel()
            await asyncio.wait({self._loop}, timeout=self._stop_seconds)
        await self._member.stop()

    async def watch(self) -> None:
        """Watches the consumer, and runs its IdleCommitter. Raises ConsumerLost when it is lost."""
        offsets = asyncio.create_task(self.idle_committer.run(), name=f"{self.title} positions")
        try:
            await self.health.watch()
        finally:
            offsets.cancel()

    # The loop

    async def _consume(self) -> None:
        try:
            while not self._stopping:
                # Without a variable, which would keep a large batch in memory until the next one
                await self._process(await self._fetcher.fetch())
        except ConsumerStoppedError:  # `stop` was called, or the fetcher gave up
            return
        except Exception as error:
            # The next fetch could skip the batch in flight
            log.critical("consumer_failed", consumer=self.title, exc_info=error)
            self.health.give_up(repr(error))

    def _loop_ended(self, _loop: asyncio.Task[None]) -> None:
        # Also if it was canceled: a library's own cancellation may escape into this task
        if not self._stopping:
            self.health.give_up("its loop ended")

    async def _process(self, batch: Batch) -> None:
        if not batch or self._stopping:
            return
        started = time.monotonic()
        self._idle.clear()
        self._oldest = min(map(_timestamp, batch)) / 1000
        try:
            if await self._processor.process(batch, self._fetcher.epoch):
                self.progress.finish()
                self._policy.succeed()
                self._retry_backoff.show_halted(is_halted=False)
                metrics.BATCH_RECORDS.labels(self.name).observe(len(batch))
                metrics.BATCH_SECONDS.labels(self.name).observe(time.monotonic() - started)
            else:
                self._rewind(batch)
        except Exception as error:  # noqa: BLE001 - every failure means another attempt
            await self._recover(batch, error)
        finally:
            self._oldest = None
            self._idle.set()

    async def _recover(self, batch: Batch, error: Exception) -> None:
        decision = self._policy.fail(error)
        if isinstance(decision, ReadPositionsAgain):
            self._read_positions_again(decision.reason)
            return
        if isinstance(decision, WaitForCapacity):
            self.health.on_capacity_wait()
        self._retry_backoff.report(decision, error)
        self._retry_backoff.show_halted(is_halted=self._policy.is_halted)
        await self._retry_backoff.wait(decision.seconds)
        self._rewind(batch)

    def _rewind(self, batch: Batch) -> None:
        self.progress.finish()
        self._processor.rewind(batch)

    def _read_positions_again(self, reason: str) -> None:
        self.progress.finish()
        if self._tracker is not None:
            self._tracker.restart(reason)

    def _forget_failures(self) -> None:
        self._policy.forget()
        self.health.on_commit_answer()
        self._retry_backoff.show_halted(is_halted=False)

    # State

    def oldest_unprocessed_seconds(self) -> float:
        """Returns the age in seconds of the oldest record in the batch in flight, or 0."""
        return max(0.0, time.time() - self._oldest) if self._oldest is not None else 0.0

    def problem(self) -> str | None:
        """Returns why this consumer does not work, or None. Readiness reports it."""
        if self._policy.is_halted:
            return "halted: too many consecutive records are poison. See consumer_halted in its log"
        if (problem := self.health.membership_problem()) is not None:
            return problem
        if self._tracker is not None and (problem := self._tracker.problem()) is not None:
            return problem
        if self._policy.is_retrying:
            return "retrying a batch that failed. See the service's log"
        return self.health.progress_problem()
