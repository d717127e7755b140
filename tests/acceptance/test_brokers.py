"""Three brokers, one of which is killed, again and again: nothing acknowledged is lost, nothing
doubled, and work goes on without it.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from deploy.administration import NewWorkspace
from deploy.local.kafka import KafkaCluster
from services.ingest.config import IngestSettings
from services.ingest.import_log import KafkaImportLog
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable
from shared.contract.topics import TOPICS, TopicName, TopicNames
from shared.kafka.admin import admin_client, create_topics
from shared.kafka.lag import GroupOffsets, LagReader
from shared.kafka.producer import choose_partition
from shared.runtime.settings import KafkaSettings
from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for, submit_until_accepted
from tests.support.deployment import Deployment, deployed, wait_for_job
from tests.support.import_log import (
    RECORDS,
    build_import,
    count_records_by_job,
    open_import_log,
    wait_until_accepted,
)
from tests.support.infrastructure import Servers, kafka_cluster
from tests.support.kafka import are_replicas_in_sync
from tests.support.processes import RunningProgram
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("PINFLOW_TEST_KILLS", "1"))
"""More of them show more, and take 10 s each."""
IN_TURN = (1, 2, 3)[:KILLS]
"""Brokers whose loss a whole Pinflow goes through: one, or with three kills and more each of them.
"""
LATEST_KILL_SECONDS = 0.03
"""After an acknowledgement."""
INSTANCES = 4
DEADLINE_SECONDS = 120
"""Of a broker's return: machines may be busy."""
VICTIM, SURVIVORS, OTHERS = 2, (1, 3), (1, 2, 3, 4, 5)
"""The broker that has partition 0 alone, and those that have the other partitions."""
USUAL_SECONDS = 2
"""Well below any deadline of an import, and above what a busy machine takes for one."""
CLIENTS, IMPORT_ROWS = 2, 20
AWAY = 3
"""Imports that must be accepted and settled while a broker is down."""


class Brokers:
    def __init__(self, kafka: KafkaCluster, programs: list[RunningProgram]) -> None:
        self.address = kafka.bootstrap_servers
        self._kafka = kafka
        self._programs = programs

    def kill(self, node_id: int) -> None:
        self._programs[node_id - 1].kill()

    def start(self, node_id: int) -> None:
        self._programs[node_id - 1].start()

    def wait_until_whole(self) -> None:
        """All are there, and have caught up: another one may go."""
        wait_until(
            lambda: (
                asyncio.run(self._kafka.is_ready())
                and asyncio.run(are_replicas_in_sync(self.address))
            ),
            seconds=DEADLINE_SECONDS,
        )


@pytest.fixture(scope="module")
def brokers(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """After the session's servers, which could take the ports of a broker that is down while they
    start.
    """
    with kafka_cluster(tmp_path_factory.mktemp("brokers")) as (kafka, programs):
        yield Brokers(kafka, programs)


@asynccontextmanager
async def acceptances_on(settings: IngestSettings) -> AsyncIterator[list[KafkaImportLog]]:
    async with AsyncExitStack() as stack:
        replicas = [
            settings.model_copy(update={"replica": str(number)}) for number in range(INSTANCES)
        ]
        yield [await stack.enter_async_context(open_import_log(one)) for one in replicas]


@pytest.mark.timeout(120 + 60 * KILLS)
async def test_invariant_1_what_was_acknowledged_survives_the_kill_of_its_broker(
    brokers: Brokers,
) -> None:
    """`make kills KIND=three` does it hundreds of times, and looks closer."""
    settings = settings_on(brokers)
    await asyncio.to_thread(brokers.wait_until_whole)
    await create_topics(settings)
    acknowledged: list[UUID] = []
    async with acceptances_on(settings) as acceptances:
        for number in range(KILLS):
            await asyncio.to_thread(brokers.wait_until_whole)
            acknowledged += await asyncio.gather(
                *map(wait_until_accepted, acceptances)
            )  # all work again
            delay = LATEST_KILL_SECONDS * number / max(1, KILLS - 1)
            victim = await kill_after_an_acknowledgement(
                brokers, settings, acceptances, acknowledged, delay
            )
            brokers.start(victim)
            await every_partition_is_read_to_its_end(settings)
    found = await count_records_by_job(settings)
    assert {job: found[job] for job in acknowledged if found[job] != RECORDS} == {}
    assert set(found.values()) == {RECORDS}


def settings_on(brokers: Brokers) -> IngestSettings:
    return IngestSettings(
        kafka_bootstrap_servers=brokers.address,
        topic_prefix=f"t-{uuid4().hex[:8]}",
        log_level="WARNING",
    )


async def kill_after_an_acknowledgement(
    brokers: Brokers,
    settings: IngestSettings,
    acceptances: list[KafkaImportLog],
    acknowledged: list[UUID],
    delay: float,
) -> int:
    """Kills the broker that leads the partition of the first import to be acknowledged.

    Returns its id.
    """
    jobs = [uuid4() for _ in acceptances]
    leaders = [
        await leader_of(settings, choose_partition(str(job).encode(), settings.topic_partitions))
        for job in jobs
    ]
    appends = [
        asyncio.create_task(one.append(build_import(job)))
        for one, job in zip(acceptances, jobs, strict=True)
    ]
    await asyncio.wait(appends, return_when=asyncio.FIRST_COMPLETED)
    victim = next(leader for leader, append in zip(leaders, appends, strict=True) if append.done())
    await asyncio.sleep(delay)
    brokers.kill(victim)
    answers = await asyncio.gather(*appends, return_exceptions=True)
    acknowledged += [
        job
        for job, answer in zip(jobs, answers, strict=True)
        if not isinstance(answer, BaseException)
    ]
    unexpected = [
        answer
        for answer in answers
        if isinstance(answer, BaseException) and not isinstance(answer, BrokerUnavailable)
    ]
    assert unexpected == []
    return victim


async def leader_of(settings: IngestSettings, partition: int) -> int:
    async with admin_client(settings) as admin:
        (topic,) = await admin.describe_topics(
            [TopicNames(settings.topic_prefix)[TopicName.IMPORTS]]
        )
    return next(
        int(found["leader"]) for found in topic["partitions"] if found["partition"] == partition
    )


async def every_partition_is_read_to_its_end(settings: IngestSettings) -> None:
    """Even read committed: no partition stands still."""

    async def read() -> bool:
        try:
            return bool(await count_records_by_job(settings, "read_committed"))
        except (KafkaError, TimeoutError):
            return False

    await eventually(read, seconds=DEADLINE_SECONDS, every=0.2)


@pytest.mark.timeout(240)
async def test_invariant_1_one_partition_without_a_leader_fails_no_other_import(
    brokers: Brokers,
) -> None:
    settings = settings_on(brokers)
    await asyncio.to_thread(brokers.wait_until_whole)
    await create_topic_of_single_replicas(settings)
    async with open_import_log(settings) as acceptance:
        await asyncio.gather(
            *(
                eventually(partial(stands, acceptance, partition), seconds=DEADLINE_SECONDS)
                for partition in (0, *OTHERS)
            )
        )
        brokers.kill(VICTIM)
        try:
            await eventually(partial(is_leaderless, settings), seconds=DEADLINE_SECONDS)
            loop, refused = asyncio.get_running_loop(), job_for(0)
            started = loop.time()
            leaderless = asyncio.create_task(acceptance.append(build_import(refused)))
            jobs = [job_for(partition) for partition in OTHERS * 10]
            for job in jobs:
                async with asyncio.timeout(USUAL_SECONDS):
                    await acceptance.append(build_import(job))
            assert not leaderless.done()
            with pytest.raises(BrokerUnavailable) as refusal:
                await leaderless
            assert not isinstance(refusal.value, AcceptanceUnknown)
            assert loop.time() - started < settings.broker_deadline_seconds + 1
        finally:
            brokers.start(VICTIM)
        await asyncio.to_thread(brokers.wait_until_whole)
        await eventually(partial(stands, acceptance, 0), seconds=DEADLINE_SECONDS)
    found = await count_records_by_job(settings)
    assert [found[job] for job in jobs] == [RECORDS] * len(jobs)
    assert found[refused] == 0


async def create_topic_of_single_replicas(settings: IngestSettings) -> None:
    (topic,) = (topic for topic in TOPICS if topic.name is TopicName.IMPORTS)
    name = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    assignments = {0: [VICTIM], **{partition: [SURVIVORS[partition % 2]] for partition in OTHERS}}
    new = NewTopic(
        name,
        -1,
        -1,
        replica_assignments=assignments,
        topic_configs=topic.configuration() | {"min.insync.replicas": "1"},
    )
    async with admin_client(settings) as admin:
        answer = await admin.create_topics([new])
    assert [error[1] for error in answer.topic_errors] == [0], answer


async def is_leaderless(settings: IngestSettings) -> bool:
    try:
        return await leader_of(settings, 0) < 0
    except (BrokerUnavailable, KafkaError):
        return False


def job_for(partition: int) -> UUID:
    return next(
        job
        for job in iter(uuid4, None)
        if choose_partition(str(job).encode(), 1 + len(OTHERS)) == partition
    )


async def stands(acceptance: KafkaImportLog, partition: int) -> bool:
    try:
        await acceptance.append(build_import(job_for(partition)))
    except BrokerUnavailable:
        return False
    return True


async def test_a_broker_that_does_not_coordinate_the_group_any_more_is_not_believed(
    brokers: Brokers,
) -> None:
    """One that was frozen or cut off, and lives on.

    It says so with an answer that is empty: as if nothing had ever been settled.
    """
    settings = KafkaSettings(
        kafka_bootstrap_servers=brokers.address, topic_prefix=f"t-{uuid4().hex[:8]}"
    )
    await asyncio.to_thread(brokers.wait_until_whole)
    await create_topics(settings)
    topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    backlog = LagReader(
        settings, topic=topic, group=f"{settings.topic_prefix}.publisher", client_id="test"
    )
    try:
        first = await eventually(lambda: told(backlog), seconds=DEADLINE_SECONDS)
        coordinator = backlog._coordinator
        assert coordinator is not None
        backlog._coordinator = coordinator % 3 + 1  # a broker, and not this group's
        with pytest.raises(BrokerUnavailable, match="NotCoordinator"):
            await backlog.read()
        assert await eventually(lambda: told(backlog), seconds=DEADLINE_SECONDS) == first
    finally:
        await backlog.close()


async def told(backlog: LagReader) -> GroupOffsets | None:
    try:
        return await backlog.read()
    except BrokerUnavailable:
        return None


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, brokers: Brokers, database_url: str
) -> Iterator[tuple[Deployment, NewWorkspace]]:
    directory: Path = tmp_path_factory.mktemp("pinflow")
    settings = KafkaSettings(
        kafka_bootstrap_servers=brokers.address, topic_prefix=f"t-{uuid4().hex[:8]}"
    )
    brokers.wait_until_whole()  # of topics made while one is away there would be but one copy
    asyncio.run(create_topics(settings))
    with deployed(
        directory,
        kafka=brokers.address,
        database_url=database_url,
        topic_prefix=settings.topic_prefix,
    ) as deployment:
        yield deployment, new_workspace(database_url)


@pytest.mark.timeout(400)
def test_invariant_2_and_invariant_3_a_lost_broker_loses_and_doubles_nothing_and_stops_nobody(
    installation: tuple[Deployment, NewWorkspace], brokers: Brokers
) -> None:
    pinflow, workspace = installation
    with httpx.Client(
        base_url=pinflow.base_url,
        headers={"X-API-Key": workspace.api_key},
        timeout=40,
        trust_env=False,
    ) as client:
        with importing(client, workspace) as jobs:
            for node_id in IN_TURN:
                brokers.wait_until_whole()
                brokers.kill(node_id)
                while_away = [
                    submit_until_accepted(
                        client, rows_for(workspace, IMPORT_ROWS, prefix=f"{node_id}-{n}")
                    )
                    for n in range(AWAY)
                ]
                for job_id in while_away:
                    assert wait_for_job(client, job_id)["completed_at"] is not None, pinflow.logs()
                jobs.extend(while_away)
                brokers.start(node_id)
        for job_id in jobs:
            job = wait_for_job(client, job_id)
            assert job["completed_at"] is not None, pinflow.logs()
            assert (job["processed_rows"], job["failed_rows"], len(job["results"])) == (
                IMPORT_ROWS,
                0,
                IMPORT_ROWS,
            )
        assert client.get("/v1/pins?limit=1").headers["x-total-count"] == str(
            len(jobs) * IMPORT_ROWS
        )


@contextmanager
def importing(client: httpx.Client, workspace: NewWorkspace) -> Iterator[list[str]]:
    """Clients that import without a pause while the body runs; the jobs that they were told of."""
    done = threading.Event()
    jobs: list[str] = []

    def work(name: str) -> None:
        number = 0
        while not done.is_set():
            number += 1
            jobs.append(
                submit_until_accepted(
                    client, rows_for(workspace, IMPORT_ROWS, prefix=f"{name}-{number}")
                )
            )

    with ThreadPoolExecutor() as pool:
        working = [pool.submit(work, f"client{number}") for number in range(CLIENTS)]
        try:
            yield jobs
        finally:
            done.set()
    for one in working:
        one.result()
