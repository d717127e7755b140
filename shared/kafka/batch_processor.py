"""Processes one batch at a time: decode, process, send dead letters, store position, commit."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from shared.contract.errors import BrokerUnavailable
from shared.kafka.batches import Batch, BatchHandler, find_end_offsets, find_first_offsets
from shared.kafka.connection import translate_error
from shared.kafka.consumer_health.health import ConsumerHealth
from shared.kafka.dead_letters import DeadLetter, to_record
from shared.kafka.failure_policy import FailurePolicy
from shared.kafka.idle_committer import COMMIT_TIMEOUT_SECONDS
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.tracker import PositionTracker
from shared.kafka.producer import RecordSender
from shared.runtime import metrics
from shared.runtime.chunks import chunked

log = structlog.get_logger()

DECODE_CHUNK_BYTES = 1024 * 1024
"""Maximum bytes that are decoded before other tasks get a turn: 4 ms for outcomes (15 ms with
pydantic). A batch can be 50 times as large."""


class BatchProcessor:
    """Processes batches, and seeks back after failures. Called by BatchConsumer."""

    def __init__(
        self,
        handler: BatchHandler[Any],
        producer: RecordSender,
        *,
        service: str,
        title: str,
        dead_letters: str,
        consumer: Callable[[], AIOKafkaConsumer | None],
        policy: FailurePolicy,
        health: ConsumerHealth,
        tracker: PositionTracker | None,
    ) -> None:
        """Receives the parts of the consumer that it uses.

        `dead_letters` is the topic of dead letters. `tracker` is None if positions are only in
        Kafka.
        """
        self._handler = handler
        self._producer = producer
        self._service = service
        self._title = title
        self._dead_letters = dead_letters
        self._consumer = consumer
        self._policy = policy
        self._health = health
        self._tracker = tracker

    async def process(self, batch: Batch, epoch: int) -> bool:
        """Makes a batch durable, then stores and commits the offsets after it.

        `epoch` is the tracker's epoch at the fetch. Returns False if the epoch has changed or
        positions are being read: then the caller rewinds, and the batch is fetched again. Raises
        whatever the handler, Kafka or Postgres raise.
        """
        if self._tracker is None:
            await self._work(batch, Advance())
            await self._commit()
            return True
        async with self._tracker.work_lock:
            advance = self._tracker.advance(find_end_offsets(batch), epoch)
            if advance is None:
                return False
            await self._work(batch, advance)
            await self._tracker.store(advance)
            await self._commit(advance.offsets())
            self._tracker.finish(advance)
            return True

    async def _work(self, batch: Batch, advance: Advance) -> None:
        decoded, poison = await decode_in_chunks(self._handler, batch)
        self._policy.check_poison(len(batch), len(poison))
        poison = [*poison, *await self._handler.process(decoded, poison, advance)]
        consecutive_poison = self._policy.check_poison(len(batch), len(poison))
        if poison:
            await self._send_dead_letters(poison)
        self._policy.accept(consecutive_poison)

    async def _send_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        records = [to_record(dead_letter, service=self._service) for dead_letter in dead_letters]
        await self._producer.send(self._dead_letters, records)
        for dead_letter in dead_letters:
            record, reason = dead_letter.record, dead_letter.reason
            log.error(
                "dead_letter",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                code=reason.code,
                message=reason.message,
            )
            metrics.DEAD_LETTERS.labels(self._service, record.topic, reason.code).inc()

    async def _commit(self, offsets: dict[TopicPartition, int] | None = None) -> None:
        """Commits these offsets. Without them, commits all positions of aiokafka's consumer."""
        consumer = self._consumer()
        if consumer is None:  # the process is stopping: the next one fetches the batch again
            raise BrokerUnavailable("the consumer is stopped")
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):  # aiokafka has no timeout
                await consumer.commit(offsets)
        except TimeoutError as error:
            self._health.on_commit_timeout()
            raise BrokerUnavailable(
                f"no answer to the commit within {COMMIT_TIMEOUT_SECONDS:g} s"
            ) from error
        except (CommitFailedError, IllegalStateError) as error:
            # Another member has the partitions now. It processes the batch again, which is
            # idempotent
            log.warning("commit_refused", consumer=self._title, error=repr(error))
        except KafkaError as error:
            raise translate_error(error) or error from error
        self._health.on_commit_answer()

    def rewind(self, batch: Batch) -> None:
        """Seeks back to the start of a batch, in partitions that are still assigned."""
        first = find_first_offsets(batch)
        if self._tracker is not None:
            self._tracker.rewind(first)
            return
        consumer = self._consumer()
        if consumer is None:
            return
        assigned = consumer.assignment()
        for partition, offset in first.items():
            if partition in assigned:
                consumer.seek(partition, offset)


async def decode_in_chunks(
    handler: BatchHandler[Any], batch: Batch
) -> tuple[list[Any], list[DeadLetter]]:
    """Decodes a batch, and lets HTTP requests and heartbeats run between its chunks."""
    decoded, poison = [], []
    sizes = [len(record.value or b"") for record in batch]
    for chunk in chunked(batch, DECODE_CHUNK_BYTES, sizes):
        chunk_decoded, chunk_poison = handler.decode(chunk)
        decoded += chunk_decoded
        poison += chunk_poison
        await asyncio.sleep(0)
    return decoded, poison
