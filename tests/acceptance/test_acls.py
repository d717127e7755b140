"""Runs the services with exactly the Kafka rights of docs/how-to/run-in-production.md."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest
from pydantic import SecretStr

from deploy.administration import NewWorkspace
from deploy.cli.exit_codes import ExitCode
from deploy.generate.applications import create_application
from deploy.local.kafka import KafkaCluster, KafkaNode, NodePorts
from deploy.local.layout import CHECKOUT
from deploy.local.ports import choose
from deploy.service_settings import find_settings
from deploy.services import SERVICES
from services.ingest.appender import PartitionAppender
from services.publisher.delivery.config import DeliverySettings
from services.publisher.delivery.log.topic import TopicDeliveryLog
from shared.contract.import_limits import MEBIBYTE
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import admin_client, create_topics
from shared.kafka.connection import client_options
from shared.kafka.producer import RecordProducer
from shared.runtime.settings import KafkaSettings
from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for
from tests.integration.publisher.delivery_log import new_pin
from tests.support import ports
from tests.support.infrastructure import FAST_JVM_OPTIONS, with_role
from tests.support.kafka import read_records
from tests.support.processes import RunningProgram
from tests.support.services import WITH_KAFKA, running_app
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

PASSWORD = "for-tests-only"  # pragma: allowlist secret
DELIVERY = "delivery"
WITHOUT_RIGHTS = "newcomer"
"""A user who can log in to Kafka and has no rights."""
NAMES = TopicNames()
TABLE = (
    (CHECKOUT / "docs/how-to/run-in-production.md")
    .read_text(encoding="utf-8")
    .partition("## 3. Grant rights in Kafka")[2]
    .partition("\n## ")[0]
)

ANY, ALLOW, LITERAL = 1, 3, 3
TOPIC, GROUP = 2, 3
OPERATIONS = {"read": 3, "write": 4, "describe": 8}


class Rights(NamedTuple):
    """The rights in one row of the table: topics by operation, its group if it has one, groups to
    describe."""

    topics: dict[str, list[TopicName]]
    group: str | None
    described_groups: list[str]


def read_rights(service: str) -> Rights:
    (row,) = re.findall(rf"^\| {service} \| (.*) \| (.*) \|$", TABLE, re.MULTILINE)
    topics = {
        part.split()[0]: [TopicName(name) for name in re.findall(r"`(.+?)`", part)]
        for part in row[0].split("; ")
    }
    group = next(iter(re.findall(r"^group `(.+?)`", row[1])), None)
    described = re.findall(r"describe group `(.+?)`", row[1])
    assert "Services also describe all seven topics" in TABLE
    return Rights(topics | {"describe": list(TopicName)}, group, described)


@dataclass(frozen=True)
class GuardedKafka(KafkaNode):
    """A broker with a second listener. There a service logs in and has only its granted rights."""

    guarded: int = 0

    def properties(self) -> dict[str, str]:
        properties = super().properties()
        properties["listener.security.protocol.map"] += ",GUARDED:SASL_PLAINTEXT"
        for name in ("listeners", "advertised.listeners"):
            properties[name] += f",GUARDED://127.0.0.1:{self.guarded}"
        users = " ".join(
            f'user_{name}="{PASSWORD}"' for name in (*WITH_KAFKA, DELIVERY, WITHOUT_RIGHTS)
        )
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return properties | {
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": f"{module} required {users};",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    directory: Path = tmp_path_factory.mktemp("acls")
    chosen = choose(
        {"kafka": ports.KAFKA, "controller": ports.KAFKA + 20, "guarded": ports.KAFKA + 40}
    )
    kafka = GuardedKafka(
        directory,
        NodePorts(chosen["kafka"], chosen["controller"]),
        FAST_JVM_OPTIONS,
        guarded=chosen["guarded"],
    )
    program = RunningProgram(kafka.prepare(), directory)
    program.start()
    try:
        program.wait_until(lambda: asyncio.run(KafkaCluster((kafka,)).is_ready()))
        yield kafka
    finally:
        program.kill() if program.is_alive else None


async def grant(settings: KafkaSettings, service: str) -> None:
    rights = read_rights(service)
    grants = [
        (TOPIC, NAMES[topic], OPERATIONS[operation])
        for operation, topics in rights.topics.items()
        for topic in topics
    ]
    if rights.group is not None:
        grants.append((GROUP, rights.group, OPERATIONS["read"]))
    grants += [(GROUP, group, OPERATIONS["describe"]) for group in rights.described_groups]
    async with admin_client(settings) as admin:
        for kind, name, operation in grants:
            request = CreateAclsRequest(
                kind, name, LITERAL, f"User:{service}", "*", operation, ALLOW
            )
            answer = await admin._send_request(request)
            assert [code for code, *_ in answer.creation_responses] == [0]

        async def are_applied() -> bool:
            """Returns whether the broker has all rights. Its controller answers before that."""
            request = DescribeAclsRequest(ANY, None, ANY, f"User:{service}", None, ANY, ANY)
            answer = await admin._send_request(request)
            return sum(len(resource[-1]) for resource in answer.resources) == len(set(grants))

        await eventually(are_applied)


class Guarded(NamedTuple):
    workspace: NewWorkspace
    clients: dict[str, httpx.AsyncClient]
    settings: dict[str, dict[str, Any]]
    """The connection settings of each service for Kafka and Postgres."""
    owner_url: str
    """The URL of the database's owner."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pinflow(guarded: GuardedKafka, database_url: str) -> AsyncIterator[Guarded]:
    operator = KafkaSettings(kafka_bootstrap_servers=guarded.bootstrap_servers)
    await create_topics(operator)
    settings: dict[str, dict[str, Any]] = {}
    for name in WITH_KAFKA:
        await grant(operator, name)
        settings[name] = {
            "kafka_bootstrap_servers": f"127.0.0.1:{guarded.guarded}",
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_sasl_mechanism": "PLAIN",
            "kafka_sasl_username": name,
            "kafka_sasl_password": SecretStr(PASSWORD),
            "database_url": SecretStr(with_role(database_url, SERVICES[name].role)),
        }
    apps = {
        name: create_application(name, find_settings(name)(**values))
        for name, values in settings.items()
    }
    async with AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(running_app(app)) for name, app in apps.items()
        }
        workspace = await asyncio.to_thread(new_workspace, database_url)
        yield Guarded(workspace, clients, settings, database_url)


def build_kafka_settings(pinflow: Guarded, service: str) -> KafkaSettings:
    settings = pinflow.settings[service]
    return KafkaSettings(
        **{name: value for name, value in settings.items() if name != "database_url"}
    )


async def test_the_documented_rights_are_enough(pinflow: Guarded, guarded: GuardedKafka) -> None:
    headers = {"X-API-Key": pinflow.workspace.api_key}
    rows = rows_for(pinflow.workspace, 3, prefix="guarded")
    accepted = await pinflow.clients["ingest"].post(
        "/v1/pins/imports/json", json=[*rows, {"title": "no more"}], headers=headers
    )
    assert accepted.status_code == 202, accepted.text
    address = f"/v1/pins/imports/{accepted.json()['id']}"

    async def ended() -> dict[str, Any] | None:
        job = (await pinflow.clients["status"].get(address, headers=headers)).json()
        return job if job.get("completed_at") else None

    job = await eventually(ended, seconds=40)
    assert (job["status"], job["created_rows"], job["failed_rows"]) == (
        "completed_with_errors",
        3,
        1,
    )
    await eventually(
        lambda: read_records(guarded.bootstrap_servers, "pinflow", TopicName.PIN_EVENTS), seconds=40
    )
    await eventually(
        lambda: read_records(guarded.bootstrap_servers, "pinflow", TopicName.JOB_EVENTS), seconds=40
    )


async def test_the_right_to_write_is_enough_for_a_producer_id(pinflow: Guarded) -> None:
    """Connects as ingest, which has no IdempotentWrite on the cluster and no transactional id.

    Kafka gives a producer id to every principal that may write to a topic (KIP-679).
    """
    rights = read_rights("ingest")
    assert rights.topics["write"] == [TopicName.IMPORTS, TopicName.DEAD_LETTERS]
    assert rights.topics["read"] == [TopicName.IMPORT_REQUESTS]
    settings = build_kafka_settings(pinflow, "ingest")
    topic = NAMES[TopicName.IMPORTS]
    appender = PartitionAppender(
        settings, topic=topic, partition=0, client_id="second", max_bytes=MEBIBYTE
    )
    appender.connect()
    try:
        async with asyncio.timeout(20):
            await appender.wait_until_connected()
        assert appender.is_connected
    finally:
        await appender.stop()


async def test_ingest_knows_the_backlog(pinflow: Guarded) -> None:
    """Ingest needs the publisher's committed offsets to limit the backlog."""

    async def is_known() -> bool:
        lines = (await pinflow.clients["ingest"].get("/metrics")).text.splitlines()
        return any(
            line.startswith("pinflow_unsettled_rows ") and not line.endswith("NaN")
            for line in lines
        )

    await eventually(is_known)


@pytest.mark.parametrize("service", WITH_KAFKA)
async def test_a_service_may_write_to_no_other_topic(pinflow: Guarded, service: str) -> None:
    settings = build_kafka_settings(pinflow, service)
    allowed = read_rights(service).topics["write"]
    async with AIOKafkaProducer(**client_options(settings, client_id="stranger")) as producer:
        for topic in set(TopicName) - set(allowed):
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(NAMES[topic], b"forged", key=b"k")


async def test_the_documented_rights_are_enough_for_the_delivery(
    pinflow: Guarded, guarded: GuardedKafka
) -> None:
    await grant(KafkaSettings(kafka_bootstrap_servers=guarded.bootstrap_servers), DELIVERY)
    settings = DeliverySettings(
        **{**pinflow.settings["publisher"], "kafka_sasl_username": DELIVERY},
        pinterest_mode="simulated",
    )
    producer = RecordProducer(settings, client_id="test-delivery")
    await producer.start()
    delivery_log = TopicDeliveryLog(settings, NAMES, producer)
    try:
        await delivery_log.announce(new_pin().attempt())
        await delivery_log.run_periodic_work()
        assert delivery_log.problem() is None
    finally:
        await delivery_log.close()
        await producer.stop()


async def test_an_operator_without_the_right_to_read_gets_a_message(pinflow: Guarded) -> None:
    """Connects as ingest, which may describe and write `dead-letters`, but not read it."""
    settings = build_kafka_settings(pinflow, "ingest")
    topic = NAMES[TopicName.DEAD_LETTERS]
    async with AIOKafkaProducer(**client_options(settings, client_id="letters")) as producer:
        await producer.send_and_wait(topic, b"a letter", key=b"k")
    assert f"TopicAuthorizationFailedError: {topic}" in await refuse_command(
        pinflow, "ingest", "dead-letters", "list"
    )


@pytest.mark.parametrize(
    ("command", "topic"),
    [(("dead-letters", "list"), TopicName.DEAD_LETTERS), (("recover",), TopicName.DELIVERIES)],
)
async def test_an_operator_without_the_right_to_describe_a_topic_is_told_so(
    pinflow: Guarded, command: tuple[str, ...], topic: TopicName
) -> None:
    """Kafka hides whether the topic exists. So the command can't say that there is none."""
    assert f"the right to describe the topic {NAMES[topic]} is missing" in await refuse_command(
        pinflow, WITHOUT_RIGHTS, *command
    )


async def refuse_command(pinflow: Guarded, user: str, *command: str) -> str:
    """Runs a command as a user of Kafka who lacks its rights. Returns its message."""
    settings = pinflow.settings["ingest"]
    variables = {
        name: str(value)
        for name, value in settings.items()
        if name in {"kafka_bootstrap_servers", "kafka_security_protocol", "kafka_sasl_mechanism"}
    } | {
        "kafka_sasl_username": user,
        "kafka_sasl_password": PASSWORD,
        "database_url": pinflow.owner_url,
    }
    refused = await asyncio.to_thread(
        subprocess.run,
        [str(Path(sys.executable).with_name("pinflow")), *command],
        env={**os.environ, **{f"PINFLOW_{name.upper()}": text for name, text in variables.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == ExitCode.REFUSED, refused.stderr
    assert "#3-grant-rights-in-kafka" in refused.stderr
    assert "Traceback" not in refused.stderr
    return refused.stderr
