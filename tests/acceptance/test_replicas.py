"""Several replicas of each service: partitions are shared evenly, whoever comes and goes, and
everything stays exact.
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

pytestmark = pytest.mark.slow

MOST = 4
PARTITIONS = 10
"""Not the default, which nothing may count on; and a number that four, three and two publishers
share unevenly if it is done wrongly.
"""
IMPORTS = 8
"""Accepted by each number of replicas, at least."""
READ = {
    "ingest": [TopicName.IMPORT_REQUESTS],
    "publisher": [TopicName.IMPORTS],
    "status": [TopicName.IMPORTS, TopicName.OUTCOMES],
    "webhooks": [TopicName.PIN_EVENTS, TopicName.JOB_EVENTS],
}
MEMBERS = {"ingest": 1, "publisher": PublisherSettings().row_consumers, "status": 1, "webhooks": 1}
"""In each process."""


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
        directory, MOST, kafka=kafka, database_url=database_url, topic_prefix=topic_prefix
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
    become(pinflow, MOST)

    async def scenario() -> None:
        working = asyncio.create_task(clients.run())
        for replicas in (4, 3, 2):
            await asyncio.to_thread(become, pinflow, replicas)
            await groups.require_even(replicas)
            before = accepted(history)
            # In this turn
            await eventually(lambda: accepted(history) >= before + IMPORTS)  # noqa: B023
        clients.stop()
        await working
        await groups.require_even(2)
        await observer.wait_until_settled(accepted(history))
        violations = check(history, await observer.read_final_state())
        assert not violations, "\n".join(str(violation) for violation in violations[:MAX_SHOWN])

    uvloop.run(scenario())


def accepted(history: History) -> int:
    return sum(submission.outcome is RequestOutcome.ACCEPTED for submission in history.submissions)


def become(pinflow: Deployment, replicas: int) -> None:
    """So many of each service: others are asked to go, of all services at once; those that are
    missing are started.
    """
    there = {
        replica_name(service, replica): replica < replicas
        for service in SERVICES
        for replica in range(MOST)
    }
    programs = {name: pinflow.programs[name] for name in there}
    going = [
        programs[name] for name, stays in there.items() if not stays and programs[name].is_alive
    ]
    for program in going:
        program.process.terminate()
    for program in going:
        program.process.wait(STOP_SECONDS)
    coming = [name for name, stays in there.items() if stays and not programs[name].is_alive]
    for name in coming:
        pinflow.restart(name)
    if coming:
        pinflow.wait_until_ready()


class Groups:
    """The services' groups, as Kafka tells of them."""

    def __init__(self, kafka: str, topic_prefix: str) -> None:
        self._kafka = kafka
        self._names = TopicNames(topic_prefix)

    async def require_even(self, replicas: int) -> None:
        """Once so many have joined, no member and no process has more of a topic than another, but
        for one partition.
        """
        for service, topics in READ.items():
            members = await self._complete(service, replicas * MEMBERS[service])
            for topic in topics:
                shares = Shares(self._names[topic], members)
                assert shares.all == PARTITIONS, shares
                assert is_even(shares.of_members()), shares
                assert is_even(shares.of_processes()), shares
                assert len(shares.of_processes()) == replicas, shares

    async def _complete(self, service: str, count: int) -> list[GroupMember]:
        async def found() -> list[GroupMember] | None:
            members = await read_group_members(self._kafka, self._names.group(service))
            return members if len(members) == count else None

        return await eventually(found, seconds=40, every=0.1)


class Shares:
    def __init__(self, topic: str, members: list[GroupMember]) -> None:
        self._topic = topic
        self._members = members

    @property
    def all(self) -> int:
        return sum(self.of_members())

    def of_members(self) -> list[int]:
        return [member.partitions[self._topic] for member in self._members]

    def of_processes(self) -> list[int]:
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


def test_the_gateway_asks_in_turn_and_passes_over_replicas_that_are_away(
    pinflow: Deployment, client: httpx.Client, workspace: NewWorkspace
) -> None:
    become(pinflow, 2)
    before = [imports_of(pinflow, replica_name("ingest", number)) for number in range(2)]
    for number in range(4):
        answer = client.post(
            "/v1/pins/imports/json", json=rows_for(workspace, 3, prefix=str(number))
        )
        assert answer.status_code == HTTPStatus.ACCEPTED, answer.text
        assert wait_for_job(client, answer.json()["id"])["created_rows"] == 3
    assert [imports_of(pinflow, replica_name("ingest", number)) for number in range(2)] == [
        count + 2 for count in before
    ]
    assert client.get("/readyz").json()["checks"] == {
        "runtime": "ok",
        "database": "ok",
        **dict.fromkeys(CHECKED_SERVICES, "ok"),
    }


def imports_of(pinflow: Deployment, name: str) -> float:
    """How many it has accepted by HTTP."""
    lines = httpx.get(
        f"{pinflow.service_url(name)}/metrics", timeout=10, trust_env=False
    ).text.splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith('pinflow_imports_total{outcome="accepted",source="json"}')
    )
