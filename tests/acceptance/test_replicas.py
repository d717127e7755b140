"""Runs several replicas of each service.

They share partitions evenly while replicas start and stop, and no row is lost or doubled.
"""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
import uvloop

from deploy.administration import NewWorkspace
from deploy.services import CHECKED_SERVICES, SERVICES
from services.publisher.config import PublisherSettings
from shared.contract.topics import TopicName, TopicNames
from tests.acceptance.conftest import new_workspace
from tests.acceptance.patience import read_readiness
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment, deployed, replica_name, wait_for_job
from tests.support.infrastructure import fresh_topics
from tests.support.kafka import GroupMember, read_group_members
from tests.support.processes import STOP_SECONDS
from tests.support.waiting import eventually
from tests.tools.chaos.checker import check
from tests.tools.chaos.history import History, RequestOutcome
from tests.tools.chaos.observer import Observer
from tests.tools.chaos.report import MAX_SHOWN
from tests.tools.chaos.workload import Clients

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MAX_REPLICAS = 4
PARTITIONS = 10
"""Differs from the default number of partitions, on which nothing may depend.

A wrong assignment would give four, three or two publishers uneven shares of ten partitions.
"""
MIN_IMPORTS = 8
"""Imports that must be accepted with each number of replicas."""
CONSUMED_TOPICS = {
    "ingest": [TopicName.IMPORT_REQUESTS],
    "publisher": [TopicName.IMPORTS],
    "status": [TopicName.IMPORTS, TopicName.OUTCOMES],
    "webhooks": [TopicName.PIN_EVENTS, TopicName.JOB_EVENTS],
}
MEMBERS_PER_PROCESS = {
    "ingest": 1,
    "publisher": PublisherSettings().row_consumers,
    "status": 1,
    "webhooks": 1,
}
"""Members of the consumer group in each process."""


@pytest.fixture(scope="module")
def topic_prefix(kafka: str) -> Iterator[str]:
    with fresh_topics(kafka, topic_partitions=PARTITIONS) as prefix:
        yield prefix


@pytest.fixture(scope="module")
def pinflow(
    tmp_path_factory: pytest.TempPathFactory, kafka: str, topic_prefix: str, database_url: str
) -> Iterator[Deployment]:
    directory: Path = tmp_path_factory.mktemp("replicas")
    with deployed(
        directory, MAX_REPLICAS, kafka=kafka, database_url=database_url, topic_prefix=topic_prefix
    ) as deployment:
        yield deployment


def test_invariants_2_3_and_5_hold_while_four_replicas_become_three_and_two_and_share_evenly(
    pinflow: Deployment, kafka: str, topic_prefix: str, database_url: str
) -> None:
    history = History(seed=7)
    workspaces = [new_workspace(database_url, f"Replicas {number}") for number in range(2)]
    clients = Clients(pinflow.base_url, kafka, topic_prefix, workspaces, history)
    observer = Observer(pinflow.base_url, kafka, topic_prefix, database_url, workspaces)
    groups = Groups(kafka, topic_prefix)
    set_replicas(pinflow, MAX_REPLICAS)

    async def scenario() -> None:
        working = asyncio.create_task(clients.run())
        for replicas in (4, 3, 2):
            await asyncio.to_thread(set_replicas, pinflow, replicas)
            await groups.require_even(replicas)
            before = count_accepted(history)
            # The lambda is used in this iteration only
            await eventually(
                lambda: count_accepted(history) >= before + MIN_IMPORTS,  # noqa: B023
                seconds=60,
            )
        clients.stop()
        await working
        await groups.require_even(2)
        await observer.wait_until_settled(count_accepted(history))
        violations = check(history, await observer.read_final_state())
        assert not violations, "\n".join(str(violation) for violation in violations[:MAX_SHOWN])

    uvloop.run(scenario())


def count_accepted(history: History) -> int:
    return sum(submission.outcome is RequestOutcome.ACCEPTED for submission in history.submissions)


def set_replicas(pinflow: Deployment, replicas: int) -> None:
    """Stops or starts processes until each service has this many replicas.

    Replicas of all services stop at the same time.
    """
    is_needed = {
        replica_name(service, replica): replica < replicas
        for service in SERVICES
        for replica in range(MAX_REPLICAS)
    }
    programs = {name: pinflow.programs[name] for name in is_needed}
    stopping = [
        programs[name]
        for name, needed in is_needed.items()
        if not needed and programs[name].is_alive
    ]
    for program in stopping:
        program.process.terminate()
    for program in stopping:
        program.process.wait(STOP_SECONDS)
    starting = [
        name for name, needed in is_needed.items() if needed and not programs[name].is_alive
    ]
    for name in starting:
        pinflow.restart(name)
    if starting:
        pinflow.wait_until_ready()


class Groups:
    """Checks the services' consumer groups in Kafka."""

    def __init__(self, kafka: str, topic_prefix: str) -> None:
        self._kafka = kafka
        self._names = TopicNames(topic_prefix)

    async def require_even(self, replicas: int) -> None:
        """Waits until all replicas have joined, and requires even shares of each topic.

        Members, and likewise processes, may differ by one partition.
        """
        for service, topics in CONSUMED_TOPICS.items():
            members = await self._wait_for_members(service, replicas * MEMBERS_PER_PROCESS[service])
            for topic in topics:
                shares = Shares(self._names[topic], members)
                assert shares.total == PARTITIONS, shares
                assert is_even(shares.by_member()), shares
                assert is_even(shares.by_process()), shares
                assert len(shares.by_process()) == replicas, shares

    async def _wait_for_members(self, service: str, count: int) -> list[GroupMember]:
        async def all_members() -> list[GroupMember] | None:
            members = await read_group_members(self._kafka, self._names.group(service))
            return members if len(members) == count else None

        return await eventually(all_members, seconds=60, every=0.1)


class Shares:
    def __init__(self, topic: str, members: list[GroupMember]) -> None:
        self._topic = topic
        self._members = members

    @property
    def total(self) -> int:
        return sum(self.by_member())

    def by_member(self) -> list[int]:
        return [member.partitions[self._topic] for member in self._members]

    def by_process(self) -> list[int]:
        clients = {member.client for member in self._members}
        return [
            sum(
                member.partitions[self._topic]
                for member in self._members
                if member.client == client
            )
            for client in clients
        ]

    def __repr__(self) -> str:
        return (
            f"{self._topic}: "
            f"{sorted((member.client, member.partitions[self._topic]) for member in self._members)}"
        )


def is_even(shares: list[int]) -> bool:
    return max(shares) - min(shares) <= 1


def test_the_gateway_uses_replicas_in_turn_and_skips_those_that_are_down(
    pinflow: Deployment, client: httpx.Client, workspace: NewWorkspace
) -> None:
    set_replicas(pinflow, 2)
    before = [count_imports(pinflow, replica_name("ingest", number)) for number in range(2)]
    for number in range(4):
        answer = client.post(
            "/v1/pins/imports/json", json=rows_for(workspace, 3, prefix=str(number))
        )
        assert answer.status_code == HTTPStatus.ACCEPTED, answer.text
        assert wait_for_job(client, answer.json()["id"])["created_rows"] == 3
    assert [count_imports(pinflow, replica_name("ingest", number)) for number in range(2)] == [
        count + 2 for count in before
    ]
    readiness = read_readiness(client, lambda answer: bool(answer.json()["status"] == "ok"))
    assert readiness.json()["checks"] == {
        "runtime": "ok",
        "database": "ok",
        **dict.fromkeys(CHECKED_SERVICES, "ok"),
    }


def count_imports(pinflow: Deployment, name: str) -> float:
    """Returns the number of JSON imports that the replica has accepted."""
    lines = httpx.get(
        f"{pinflow.service_url(name)}/metrics", timeout=40, trust_env=False
    ).text.splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith('pinflow_imports_total{outcome="accepted",source="json"}')
    )
