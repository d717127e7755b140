"""Surveys positions, accepts losses and settles lost rows. Does the I/O; other modules decide."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import chain

from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncConnection

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
from deploy.cli.recovery.lost_rows import JobResults, UnfinishedJob, build_result_records, decide
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
"""How long Kafka may take while positions are locked. Services' batches wait meanwhile."""
MAX_JOBS_PER_TRANSACTION = 100
"""Jobs per transaction. The publisher's batches wait for it."""
POLL_SECONDS = 0.5
SETTLING_SERVICES = (PositionOwner.PUBLISHER, PositionOwner.STATUS)


class NotReady(PinflowError):
    """Rows may still settle by themselves. The message says why, and what to do."""


async def survey(database: Database, settings: KafkaSettings) -> Survey:
    """Reads all positions and Kafka. Raises NotMigrated, MissingTopics, Unavailable."""
    await RecoveryRepository(database).require_positions()
    async with ClusterReader.open(settings) as reader:
        return await _survey(database, settings, reader)


async def unfinished(database: Database) -> UnfinishedJobs:
    """Reads the jobs that have not ended."""
    return await RecoveryRepository(database).unfinished()


async def accept(
    database: Database,
    settings: KafkaSettings,
    shown: Sequence[Comparison],
) -> list[AcceptedLoss]:
    """Accepts the losses that were shown, if they are still the same. One transaction a service."""
    accepted: list[AcceptedLoss] = []
    async with ClusterReader.open(settings) as reader:
        for service in PositionOwner:
            losses = [loss for loss in find_unaccepted(shown) if loss.service is service]
            if losses:
                accepted += await _accept(database, settings, reader, service, losses)
    return accepted


async def find_lost(
    database: Database,
    settings: KafkaSettings,
    *,
    age: timedelta,
    seconds: float,
) -> tuple[list[UnfinishedJob], dict[TopicPartition, int]]:
    """Reads the jobs whose missing rows can be settled, once services have read all of Kafka.

    Waits at most `seconds`. Also returns the ends that the publisher has reached. Raises NotReady.
    """
    await RecoveryRepository(database).require_positions()
    async with ClusterReader.open(settings) as reader:
        ends = await _wait_until_read(database, settings, reader, seconds)
    return await RecoveryRepository(database).jobs(age), ends


async def promised_keys(database: Database) -> int:
    """Counts the keys kept for rows that Kafka lost."""
    return await RecoveryRepository(database).promised_keys()


async def free_keys(
    database: Database,
    settings: KafkaSettings,
    ends: dict[TopicPartition, int],
) -> int:
    """Frees the keys kept for rows that Kafka lost. Returns their number.

    Raises NotReady if the publisher's position is before `ends`.
    """
    async with database.transaction() as connection:
        await _lock_publisher_positions(connection, settings, ends)
        return await repository.free_keys(connection)


async def fail_lost(
    database: Database,
    settings: KafkaSettings,
    jobs: Sequence[UnfinishedJob],
    ends: dict[TopicPartition, int],
) -> Counter[str]:
    """Settles the missing rows of jobs. Returns their numbers by status.

    Each portion is recorded before it is sent. So a stopped run can be repeated, and every run
    reports the same results.
    """
    producer = RecordProducer(settings, client_id="pinflow-recover")
    outcomes = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    done: Counter[str] = Counter()
    await producer.start()
    try:
        for start in range(0, len(jobs), MAX_JOBS_PER_TRANSACTION):
            portion = jobs[start : start + MAX_JOBS_PER_TRANSACTION]
            decisions = await _record(database, settings, portion, ends)
            if records := build_result_records(decisions):
                await producer.send(outcomes, records)
            for one in decisions:
                done += one.counts()
    finally:
        await producer.stop()
    return done


async def _survey(database: Database, settings: KafkaSettings, reader: ClusterReader) -> Survey:
    # Services may work meanwhile. In the order of committed offsets, positions and logs' ends, each
    # is at most the next
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
    partitions = sorted(logs.keys() | {one for one in stored if one.topic in topics})
    return [
        compare(
            service,
            topics[one.topic],
            one.topic,
            one.partition,
            stored.get(one),
            logs.get(one),
            cluster.cluster_id,
        )
        for one in partitions
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
        changing = find_unchanged(now, shown)
        accepted = [AcceptedLoss(one, one.log.begin if one.log else None) for one in changing]
        await repository.accept(connection, service, accepted, cluster.cluster_id)
    return accepted


async def _wait_until_read(
    database: Database,
    settings: KafkaSettings,
    reader: ClusterReader,
    seconds: float,
) -> dict[TopicPartition, int]:
    """Waits until the publisher and status have read all that Kafka has now.

    Waits for the imports first, then for their outcomes. Returns the ends of the imports.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    ends: dict[TopicPartition, int] = {}
    for topic in (TopicName.IMPORTS, TopicName.OUTCOMES):
        targets: dict[TopicPartition, int] = {}
        while True:
            found = await _survey(database, settings, reader)
            _require_no_refusal(found)
            settling = [one for one in found.comparisons if one.service in SETTLING_SERVICES]
            concerned = [one for one in settling if one.topic is topic]
            if not targets:
                targets = {_place(one): one.log.end for one in concerned if one.log}
            waiting = [one for one in concerned if _is_before(one, targets)]
            if not waiting and not _find_behind(found):
                break
            if loop.time() > deadline:
                raise NotReady(_explain_waiting(waiting or _find_behind(found)))
            await asyncio.sleep(POLL_SECONDS)
        ends |= targets if topic is TopicName.IMPORTS else {}
    return ends


def _is_before(one: Comparison, targets: dict[TopicPartition, int]) -> bool:
    if one.log is None:
        return False
    return one.log.end - one.lag < targets.get(_place(one), 0)


def _place(one: Comparison) -> TopicPartition:
    return TopicPartition(one.topic_name, one.partition)


def _find_behind(found: Survey) -> list[Comparison]:
    return [one for one in found.comparisons if one.state is PositionState.BEHIND]


def _require_no_refusal(found: Survey) -> None:
    if waiting := find_unaccepted(found.comparisons):
        raise NotReady(
            f"A loss in {len(waiting)} partition(s) is not accepted yet. See: pinflow recover",
        )


def _explain_waiting(waiting: Sequence[Comparison]) -> str:
    places = ", ".join(
        sorted({f"{one.service} {one.topic_name}/{one.partition}" for one in waiting}),
    )
    why = f"Some rows may still settle by themselves: records wait in {places}."
    return f"{why} Let the services run until all is read, then try again."


async def _record(
    database: Database,
    settings: KafkaSettings,
    portion: Sequence[UnfinishedJob],
    ends: dict[TopicPartition, int],
) -> list[JobResults]:
    """Decides the missing rows of jobs and records those that are lost, in one transaction.

    Locks the publisher's positions, so that no batch publishes a row or records its outcome
    meanwhile.
    """
    async with database.transaction() as connection:
        await _lock_publisher_positions(connection, settings, ends)
        jobs = await repository.read_jobs(connection, [job.job_id for job in portion])
        job_ids = [job.job_id for job in jobs]
        recorded = await repository.read_recorded(connection, job_ids)
        pins = await repository.read_pins(connection, jobs)
        decisions = [decide(job, recorded, pins) for job in jobs]
        await repository.record_lost(connection, [row for one in decisions for row in one.lost])
    return decisions


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
            place = f"{partition.topic}/{partition.partition}"
            raise NotReady(f"The publisher's position in {place} changed. See: pinflow recover")
