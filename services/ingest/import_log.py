"""Writes each import to Kafka as one record batch and reports what an error proves.

See ADR 0025, and invariant 1 in docs/explanation/architecture.md.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from services.ingest.appender import AppendProgress, PartitionAppender
from services.ingest.config import IngestSettings
from services.ingest.model import ImportEnd
from services.ingest.records import ImportBatch
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable, ProcessNotConnected
from shared.contract.import_limits import MAX_IMPORT_BYTES
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.producer import choose_partition
from shared.runtime.tasks import retrieve_exception

log = structlog.get_logger()

T = TypeVar("T")


class KafkaImportLog:
    """Appends imports to the topic `imports`. Reconnects after an outage of Kafka."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
        self._appenders: dict[int, PartitionAppender] = {}
        self._running: set[asyncio.Task[ImportEnd | None]] = set()
        self._sending: set[asyncio.Task[int | None]] = set()
        self._stopped = False

    async def start(self) -> None:
        """Returns once the first partition is connected. The others connect in the background."""
        first = self._get_appender(0)
        await first.wait_until_connected()
        for partition in range(first.partition_count() or 1):
            self._get_appender(partition)

    async def stop(self) -> None:
        """Refuses new imports and waits, within their deadline, for those under way."""
        self._stopped = True
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.acceptance_deadline_seconds)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.gather(*(appender.stop() for appender in self._appenders.values()))

    def problem(self) -> str | None:
        """Returns why no import can be accepted now, or None.

        Replaces connections that died while they were idle.
        """
        for appender in self._appenders.values():
            appender.replace_dead()
        is_connected = any(appender.is_connected for appender in self._appenders.values())
        return None if is_connected else f"{self._topic}: not connected"

    async def append(self, batch: ImportBatch, started: float | None = None) -> ImportEnd | None:
        """Writes the import. Returns its end, or None if it has no rows or its end is unknown.

        Raises BrokerUnavailable, within broker_deadline_seconds, if nothing was written. Raises
        AcceptanceUnknown, within acceptance_deadline_seconds, if the import was sent and not
        acknowledged: it was written completely or not at all. Both deadlines count from `started`
        (in the event loop's time), which is now by default.
        """
        started = asyncio.get_running_loop().time() if started is None else started
        if asyncio.get_running_loop().time() >= started + self._settings.broker_deadline_seconds:
            raise BrokerUnavailable("No time was left to send the import to Kafka")
        # A separate task with the deadlines: a client that disconnects must not cancel it halfway
        task = _spawn(self._running, self._append(self._choose_partition(batch), batch, started))
        return await asyncio.shield(task)

    async def _append(self, partition: int, batch: ImportBatch, started: float) -> ImportEnd | None:
        progress = AppendProgress()
        try:
            end = await self._send(self._get_appender(partition), batch, progress, started)
        except (BrokerUnavailable, MessageSizeTooLargeError):
            raise  # MessageSizeTooLargeError is a bug: the limits guarantee that a batch fits
        except Exception as error:
            if not (progress.in_doubt or isinstance(error, KafkaError)):
                raise  # a bug before anything was sent
            log.warning("import_not_acknowledged", in_doubt=progress.in_doubt, exc_info=error)
            raise (AcceptanceUnknown if progress.in_doubt else BrokerUnavailable)(
                repr(error)
            ) from error
        return ImportEnd(partition, end) if end is not None and batch.row_count else None

    async def _send(
        self,
        appender: PartitionAppender,
        batch: ImportBatch,
        progress: AppendProgress,
        started: float,
    ) -> int | None:
        """Waits for the append within the deadlines.

        Raises BrokerUnavailable, AcceptanceUnknown, and what the append raises.
        """
        appending = _spawn(self._sending, appender.append(batch.records, progress))
        try:
            await _wait(appending, started + self._settings.broker_deadline_seconds)
            if not appending.done() and progress.in_doubt:
                await _wait(appending, started + self._settings.acceptance_deadline_seconds)
            if appending.done():
                return appending.result()
        finally:
            # The append runs on the same event loop, so from here on it writes to no connection
            progress.abandoned = True
            appending.cancel()
        if progress.in_doubt:
            raise AcceptanceUnknown("Kafka did not acknowledge the import in time")
        raise BrokerUnavailable("The import could not be sent to Kafka in time")

    def _choose_partition(self, batch: ImportBatch) -> int:
        if self._stopped or not self._appenders:
            raise ProcessNotConnected("This process is starting or stopping")
        partitions = max(
            filter(None, (appender.partition_count() for appender in self._appenders.values())),
            default=0,
        )
        for partition in range(len(self._appenders), partitions):  # added by an operator
            self._get_appender(partition)
        return choose_partition(batch.key, len(self._appenders))

    def _get_appender(self, partition: int) -> PartitionAppender:
        if partition not in self._appenders:
            appender = PartitionAppender(
                self._settings,
                topic=self._topic,
                partition=partition,
                client_id=f"pinflow-ingest-{self._settings.replica}-imports",
                max_bytes=MAX_IMPORT_BYTES,
            )
            appender.connect()
            self._appenders[partition] = appender
        return self._appenders[partition]


async def _wait(task: "asyncio.Task[T]", deadline: float) -> None:
    await asyncio.wait({task}, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))


def _spawn(tasks: "set[asyncio.Task[T]]", work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    # After a deadline, or if the client has disconnected, nobody awaits the task
    task.add_done_callback(retrieve_exception)
    return task
