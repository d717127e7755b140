"""Three brokers, one of which is killed, again and again: nothing acknowledged is lost, nothing doubled, and work goes on without it."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError

from deploy.administration import NewWorkspace
from deploy.local.kafka import KafkaCluster
from services.ingest.config import IngestSettings
from services.ingest.transactions import TransactionPool
from shared.errors import BrokerUnavailable
from shared.messaging.admin import create_topics
from shared.messaging.backlog import BacklogReader, Offsets
from shared.messaging.connection import client_options
from shared.messaging.records import partition_of
from shared.settings import KafkaSettings
from shared.topics import TopicName, TopicNames
from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for, submit_until_accepted
from tests.deployment import Deployment, deployed, job_of
from tests.infrastructure import Servers, kafka_cluster
from tests.kafka import all_in_sync, reader
from tests.processes import RunningProgram
from tests.transactions import NAMES, ROWS, all_seen, an_import, pool_of
from tests.waiting import eventually, until

KILLS = int(os.environ.get("PINFLOW_TEST_KILLS", "1"))
"""More of them show more, and take 10 s each: docs/decisions/0008 has what they showed."""
IN_TURN = (1, 2, 3)[:KILLS]
"""Brokers whose loss a whole Pinflow goes through: one, or with three kills and more each of them."""
LATEST_KILL_SECONDS = 0.03
"""After an answered commit. Its markers are written by then."""
PRODUCERS = 4
DEADLINE_SECONDS = 120
"""Of a broker's return and of a transaction's end: machines may be busy."""
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
        until(lambda: asyncio.run(self._kafka.is_ready()) and asyncio.run(all_in_sync(self.address)), seconds=DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def brokers(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """After the session's servers, which could take the ports of a broker that is down while they start."""
    with kafka_cluster(tmp_path_factory.mktemp("brokers")) as (kafka, programs):
        yield Brokers(kafka, programs)


@asynccontextmanager
async def pools_on(settings: IngestSettings) -> AsyncIterator[list[TransactionPool]]:
    """Each with one producer, so that it is known whose a commit was."""
    async with AsyncExitStack() as stack:
        replicas = [settings.model_copy(update={"replica": str(number)}) for number in range(PRODUCERS)]
        yield [await stack.enter_async_context(pool_of(one)) for one in replicas]


@pytest.mark.timeout(120 + 60 * KILLS)
async def test_invariant_1_what_was_acknowledged_survives_the_kill_of_the_broker_that_has_just_done_so(brokers: Brokers) -> None:
    """Between a commit's answer and its markers: there a lone broker that is killed can lose what it answered (docs/decisions/0008)."""
    settings = IngestSettings(
        kafka_bootstrap_servers=brokers.address, topic_prefix=f"t-{uuid4().hex[:8]}", transactional_producers=1, log_level="WARNING"
    )
    await create_topics(settings)
    acknowledged: list[UUID] = []
    async with pools_on(settings) as pools:
        for number in range(KILLS):
            await asyncio.to_thread(brokers.wait_until_whole)
            await asyncio.gather(*(acknowledge(pool, acknowledged) for pool in pools))  # all work again
            await nothing_hangs(settings)
            delay = LATEST_KILL_SECONDS * number / max(1, KILLS - 1)
            victim = await kill_after_a_commit(brokers, settings, pools, acknowledged, delay, coordinator=number % 2 == 0)
            brokers.start(victim)
            # Before any other transaction: the next one of the same producer would hide that the last had no marker
            await nothing_hangs(settings)
    found = await all_seen(settings)
    assert {job: found[job] for job in acknowledged if found[job] != ROWS + 1} == {}
    assert set(found.values()) == {ROWS + 1}


async def acknowledge(pool: TransactionPool, acknowledged: list[UUID]) -> None:
    async def committed() -> bool:
        job = uuid4()
        try:
            await pool.commit(an_import(job))
        except BrokerUnavailable:
            return False
        acknowledged.append(job)
        return True

    await eventually(committed, seconds=DEADLINE_SECONDS)


async def kill_after_a_commit(
    brokers: Brokers,
    settings: IngestSettings,
    pools: list[TransactionPool],
    acknowledged: list[UUID],
    delay: float,
    *,
    coordinator: bool,
) -> int:
    """Kill the broker that coordinated the first of several commits to be answered, or that leads its rows. Returns its id."""
    jobs = [uuid4() for _ in pools]
    victims = [await broker_of(settings, number, job, coordinator=coordinator) for number, job in enumerate(jobs)]
    commits = [asyncio.create_task(pool.commit(an_import(job))) for pool, job in zip(pools, jobs, strict=True)]
    await asyncio.wait(commits, return_when=asyncio.FIRST_COMPLETED)
    victim = next(victim for victim, commit in zip(victims, commits, strict=True) if commit.done())
    await asyncio.sleep(delay)
    brokers.kill(victim)
    answers = await asyncio.gather(*commits, return_exceptions=True)
    acknowledged += [job for job, answer in zip(jobs, answers, strict=True) if not isinstance(answer, BaseException)]
    unexpected = [answer for answer in answers if isinstance(answer, BaseException) and not isinstance(answer, BrokerUnavailable)]
    assert unexpected == []
    return victim


async def broker_of(settings: IngestSettings, producer: int, job: UUID, *, coordinator: bool) -> int:
    client = AIOKafkaClient(**client_options(settings, client_id="test"))
    await client.bootstrap()
    try:
        if coordinator:
            return int(await client.coordinator_lookup(CoordinationType.TRANSACTION, f"{settings.topic_prefix}-ingest-{producer}-0"))
        topic = TopicNames(settings.topic_prefix)[TopicName.ROWS]
        await client.add_topic(topic)
        partition = partition_of(str(job).encode(), len(client.cluster.partitions_for_topic(topic)))
        leaders = {one.partition: one.leader for one in client.cluster._partitions[topic].values()}
        return int(leaders[partition])
    finally:
        await client.close()


async def nothing_hangs(settings: IngestSettings) -> None:
    """Read-committed consumers get to the end of every partition: no transaction is open."""

    async def ends(isolation_level: str) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = {}
        for name in NAMES:
            topic = TopicNames(settings.topic_prefix)[name]
            async with reader(settings.kafka_bootstrap_servers, topic, isolation_level=isolation_level) as consumer:
                found |= await consumer.end_offsets(consumer.assignment())
        return found

    async def reached() -> bool:
        try:
            async with asyncio.timeout(10):
                return await ends("read_committed") == await ends("read_uncommitted")
        except (KafkaError, TimeoutError):
            return False

    await eventually(reached, seconds=DEADLINE_SECONDS, every=0.2)


async def test_a_broker_that_does_not_coordinate_the_group_any_more_is_not_believed(brokers: Brokers) -> None:
    """One that was frozen or cut off, and lives on. It says so with an answer that is empty: as if nothing had ever been settled."""
    settings = KafkaSettings(kafka_bootstrap_servers=brokers.address, topic_prefix=f"t-{uuid4().hex[:8]}")
    await asyncio.to_thread(brokers.wait_until_whole)
    await create_topics(settings)
    topic = TopicNames(settings.topic_prefix)[TopicName.ROWS]
    backlog = BacklogReader(settings, topic=topic, group=f"{settings.topic_prefix}.publisher", client_id="test")
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


async def told(backlog: BacklogReader) -> Offsets | None:
    try:
        return await backlog.read()
    except BrokerUnavailable:
        return None


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, brokers: Brokers, database_url: str
) -> Iterator[tuple[Deployment, NewWorkspace]]:
    directory: Path = tmp_path_factory.mktemp("pinflow")
    settings = KafkaSettings(kafka_bootstrap_servers=brokers.address, topic_prefix=f"t-{uuid4().hex[:8]}")
    brokers.wait_until_whole()  # of topics made while one is away there would be but one copy
    asyncio.run(create_topics(settings))
    with deployed(directory, kafka=brokers.address, database_url=database_url, topic_prefix=settings.topic_prefix) as deployment:
        yield deployment, new_workspace(database_url)


@pytest.mark.timeout(400)
def test_invariant_2_and_invariant_3_the_loss_of_a_broker_loses_and_doubles_nothing_and_stops_nobody(
    installation: tuple[Deployment, NewWorkspace], brokers: Brokers
) -> None:
    pinflow, workspace = installation
    with httpx.Client(base_url=pinflow.base_url, headers={"X-API-Key": workspace.api_key}, timeout=40, trust_env=False) as client:
        with importing(client, workspace) as jobs:
            for node_id in IN_TURN:
                brokers.wait_until_whole()
                brokers.kill(node_id)
                while_away = [submit_until_accepted(client, rows_for(workspace, IMPORT_ROWS, prefix=f"{node_id}-{n}")) for n in range(AWAY)]
                for job_id in while_away:
                    assert job_of(client, job_id)["completed_at"] is not None, pinflow.logs()
                jobs.extend(while_away)
                brokers.start(node_id)
        for job_id in jobs:
            job = job_of(client, job_id)
            assert job["completed_at"] is not None, pinflow.logs()
            assert (job["processed_rows"], job["failed_rows"], len(job["results"])) == (IMPORT_ROWS, 0, IMPORT_ROWS)
        assert client.get("/v1/pins?limit=1").headers["x-total-count"] == str(len(jobs) * IMPORT_ROWS)


@contextmanager
def importing(client: httpx.Client, workspace: NewWorkspace) -> Iterator[list[str]]:
    """Clients that import without a pause while the body runs; the jobs that they were told of."""
    done = threading.Event()
    jobs: list[str] = []

    def work(name: str) -> None:
        number = 0
        while not done.is_set():
            number += 1
            jobs.append(submit_until_accepted(client, rows_for(workspace, IMPORT_ROWS, prefix=f"{name}-{number}")))

    with ThreadPoolExecutor() as pool:
        working = [pool.submit(work, f"client{number}") for number in range(CLIENTS)]
        try:
            yield jobs
        finally:
            done.set()
    for one in working:
        one.result()
