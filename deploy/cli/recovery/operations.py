"""Surveys positions, accepts losses and settles lost rows. Does the I/O; other modules decide."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain

from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.cli.counts import number_of
from deploy.cli.recovery import repository
from deploy.cli.recovery.cluster import ClusterReader, ClusterSnapshot
from deploy.cli.recovery.comparison import (
    AcceptedLoss,
    Comparison,
    PositionState,
    compare,
    find_unaccepted,
    find_unchanged,
)
from deploy.cli.recovery.lost_rows import (
    JobResults,
    UnfinishedJob,
    build_result_records,
    decide_results,
)
from deploy.cli.recovery.positions import POSITION_TOPICS, PositionOwner
from deploy.cli.recovery.repository import RecoveryRepository
from deploy.cli.recovery.summary import Survey, UnfinishedJobs
from shared.contract.errors import PinflowError
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.positions.rules import StoredPosition
from shared.kafka.positions.store import PositionStore
from shared.kafka.producer import RecordProducer
from shared.postgres.database import Database
from shared.runtime.settings import KafkaSettings

MAX_LOCK_SECONDS = 25.0
"""The longest time for which positions stay locked while Kafka is read. Batches wait meanwhile."""
MAX_JOBS_PER_TRANSACTION = 100
"""The publisher's batches wait while such a transaction runs."""
POLL_SECONDS = 0.5
SETTLING_SERVICES = (PositionOwner.PUBLISHER, PositionOwner.STATUS)


class NotReady(PinflowError):
    """Rows may still get a result from the services. The message has the next step."""


class LossNotAccepted(PinflowError):
    """A loss must be accepted before lost rows are settled. The message has the next step."""


async def survey(database: Database, settings: KafkaSettings) -> Survey:
    """Compares all positions with Kafka's log. Raises NotMigrated, MissingTopics, Unavailable."""
    await RecoveryRepository(database).require_positions()
    async with ClusterReader.open(settings) as reader:
        positions = await _survey(database, settings, reader)
    return replace(positions, lost_pins=await RecoveryRepository(database).read_lost_pins())


async def read_unfinished_jobs(database: Database) -> UnfinishedJobs:
    """Reads the jobs that have not ended."""
    return await RecoveryRepository(database).read_unfinished()


async def accept(
    database: Database,
    settings: KafkaSettings,
    shown: Sequence[Comparison],
) -> list[AcceptedLoss]:
    """Accepts the shown losses whose state has not changed, in one transaction per service.

    Returns these losses with their new positions.
    """
    accepted: list[AcceptedLoss] = []
    async with ClusterReader.open(settings) as reader:
        for service in PositionOwner:
            losses = [loss for loss in find_unaccepted(shown) if loss.service is service]
            if losses:
                accepted += await _accept(database, settings, reader, service, losses)
    return accepted


async def find_lost_rows(
    database: Database,
    settings: KafkaSettings,
    *,
    age: timedelta,
    seconds: float,
) -> tuple[list[UnfinishedJob], dict[TopicPartition, int]]:
    """Waits until the services have read all records, then reads the jobs with unsettled rows.

    Leaves out jobs whose import was accepted less than `age` ago. Waits at most `seconds`.
    Also returns the offsets that the publisher has reached in `imports`. Raises NotReady, or
    LossNotAccepted if an operator must accept a loss first.
    """
    await RecoveryRepository(database).require_positions()
    async with ClusterReader.open(settings) as reader:
        ends = await _wait_until_read(database, settings, reader, seconds)
    return await RecoveryRepository(database).read_jobs_older_than(age), ends


async def count_reserved_keys(database: Database) -> int:
    """Counts the idempotency keys that are reserved for rows that Kafka lost."""
    return await RecoveryRepository(database).count_reserved_keys()


async def free_reserved_keys(
    database: Database,
    settings: KafkaSettings,
    ends: dict[TopicPartition, int],
) -> int:
    """Frees the idempotency keys that are reserved for rows that Kafka lost.

    Returns their number. Raises NotReady if the publisher's position is before `ends`.
    """
    async with database.transaction() as connection:
        await _lock_publisher_positions(connection, settings, ends)
        return await repository.free_reserved_keys(connection)


async def settle_lost_rows(
    database: Database,
    settings: KafkaSettings,
    jobs: Sequence[UnfinishedJob],
    ends: dict[TopicPartition, int],
) -> Counter[str]:
    """Settles the jobs' rows without a result. Returns the number of rows by status.

    Results are recorded in Postgres before they are sent to Kafka. So a stopped run can be
    repeated, and every run reports the same results.
    """
    producer = RecordProducer(settings, client_id="pinflow-recover")
    outcomes = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    totals: Counter[str] = Counter()
    await producer.start()
    try:
        for start in range(0, len(jobs), MAX_JOBS_PER_TRANSACTION):
            chunk = jobs[start : start + MAX_JOBS_PER_TRANSACTION]
            results = await _record_results(database, settings, chunk, ends)
            if records := build_result_records(results):
                await producer.send(outcomes, records)
            for job_results in results:
                totals += job_results.counts()
    finally:
        await producer.stop()
    return totals


async def _survey(database: Database, settings: KafkaSettings, reader: ClusterReader) -> Survey:
    # Services may process records meanwhile. Read in this order, a committed offset is at most its
    # position, and a position at most its log's end
    committed = await reader.read_committed()
    stores = {service: PositionStore(database, service) for service in PositionOwner}
    stored = {service: await store.load() for service, store in stores.items()}
    seeded = frozenset(
        [service for service, store in stores.items() if await store.has_offsets_to_take_over()]
    )
    cluster = await reader.read(committed)
    names = TopicNames(settings.topic_prefix)
    compared = [_compare(service, names, stored[service], cluster) for service in PositionOwner]
    return Survey(cluster.cluster_id, list(chain.from_iterable(compared)), seeded)


def _compare(
    service: PositionOwner,
    names: TopicNames,
    stored: dict[TopicPartition, StoredPosition],
    cluster: ClusterSnapshot,
) -> list[Comparison]:
    logs = cluster.logs[service]
    topics = {names[topic]: topic for topic in POSITION_TOPICS[service]}
    partitions = sorted(
        logs.keys() | {partition for partition in stored if partition.topic in topics}
    )
    return [
        compare(
            service,
            topics[partition.topic],
            partition.topic,
            partition.partition,
            stored.get(partition),
            logs.get(partition),
            cluster.cluster_id,
        )
        for partition in partitions
    ]


async def _accept(
    database: Database,
    settings: KafkaSettings,
    reader: ClusterReader,
    service: PositionOwner,
    shown: Sequence[Comparison],
) -> list[AcceptedLoss]:
    names = TopicNames(settings.topic_prefix)
    topics = [names[topic] for topic in POSITION_TOPICS[service]]
    async with database.transaction(extra_timeout_seconds=MAX_LOCK_SECONDS) as connection:
        stored = await repository.lock_positions(connection, service, topics)
        cluster = await reader.read(await reader.read_committed())
        now = _compare(service, names, stored, cluster)
        unchanged = find_unchanged(now, shown)
        accepted = [AcceptedLoss(loss, loss.log.begin if loss.log else None) for loss in unchanged]
        await repository.record_delivery_loss(connection, accepted)
        await repository.accept(connection, service, accepted, cluster.cluster_id)
    return accepted


async def _wait_until_read(
    database: Database,
    settings: KafkaSettings,
    reader: ClusterReader,
    seconds: float,
) -> dict[TopicPartition, int]:
    """Waits until the publisher and status have read all records that Kafka has now.

    Waits for `imports` first, then for their outcomes. Returns the ends of `imports`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    ends: dict[TopicPartition, int] = {}
    for topic in (TopicName.IMPORTS, TopicName.OUTCOMES):
        targets: dict[TopicPartition, int] = {}
        while True:
            current = await _survey(database, settings, reader)
            _require_no_loss(current)
            readers = [
                comparison
                for comparison in current.comparisons
                if comparison.service in SETTLING_SERVICES and comparison.topic is topic
            ]
            if not targets:
                targets = {
                    _to_topic_partition(reader): reader.log.end for reader in readers if reader.log
                }
            waiting = [reader for reader in readers if _is_before(reader, targets)]
            if not waiting and not _find_behind(current):
                break
            if loop.time() > deadline:
                raise NotReady(_explain_waiting(waiting or _find_behind(current)))
            await asyncio.sleep(POLL_SECONDS)
        ends |= targets if topic is TopicName.IMPORTS else {}
    return ends


def _is_before(comparison: Comparison, targets: dict[TopicPartition, int]) -> bool:
    if comparison.log is None:
        return False
    processed = comparison.log.end - comparison.lag
    return processed < targets.get(_to_topic_partition(comparison), 0)


def _to_topic_partition(comparison: Comparison) -> TopicPartition:
    return TopicPartition(comparison.topic_name, comparison.partition)


def _find_behind(survey: Survey) -> list[Comparison]:
    return [
        comparison for comparison in survey.comparisons if comparison.state is PositionState.BEHIND
    ]


def _require_no_loss(survey: Survey) -> None:
    if losses := find_unaccepted(survey.comparisons):
        raise LossNotAccepted(
            f"A loss in {number_of(len(losses), 'partition')} must be accepted first. See it with: "
            "pinflow recover. Then accept it with: pinflow recover --accept"
        )


def _explain_waiting(waiting: Sequence[Comparison]) -> str:
    partitions = sorted(
        {
            f"{comparison.service} {comparison.topic_name}/{comparison.partition}"
            for comparison in waiting
        }
    )
    return (
        f"Some rows may still get a result: records wait in {', '.join(partitions)}. Let the "
        "services run until they have read all records, then try again."
    )


async def _record_results(
    database: Database,
    settings: KafkaSettings,
    chunk: Sequence[UnfinishedJob],
    ends: dict[TopicPartition, int],
) -> list[JobResults]:
    """Decides the results of rows without one, and records the lost rows, in one transaction.

    Locks the publisher's positions. So no batch can publish a row or record its outcome meanwhile.
    """
    async with database.transaction() as connection:
        await _lock_publisher_positions(connection, settings, ends)
        jobs = await repository.read_jobs(connection, [job.job_id for job in chunk])
        job_ids = [job.job_id for job in jobs]
        recorded = await repository.read_recorded_outcomes(connection, job_ids)
        pins = await repository.read_pins(connection, jobs)
        results = [decide_results(job, recorded, pins) for job in jobs]
        lost = [row for job_results in results for row in job_results.lost]
        await repository.record_lost(connection, lost)
    return results


async def _lock_publisher_positions(
    connection: AsyncConnection,
    settings: KafkaSettings,
    ends: dict[TopicPartition, int],
) -> None:
    """Locks the publisher's positions. Raises NotReady if a position is before its end."""
    names = TopicNames(settings.topic_prefix)
    topics = [names[topic] for topic in POSITION_TOPICS[PositionOwner.PUBLISHER]]
    _require_reached(
        await repository.lock_positions(connection, PositionOwner.PUBLISHER, topics),
        ends,
    )


def _require_reached(
    stored: dict[TopicPartition, StoredPosition],
    ends: dict[TopicPartition, int],
) -> None:
    for partition, end in ends.items():
        position = stored.get(partition)
        if end and (position is None or position.refused or position.next_offset < end):
            name = f"{partition.topic}/{partition.partition}"
            raise NotReady(
                f"The publisher's position in {name} changed meanwhile. Check it with: pinflow "
                "recover"
            )
