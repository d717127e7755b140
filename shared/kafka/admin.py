"""Administers Kafka: creates topics, reads the cluster id, and removes static members."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import TOPICS, Topic, TopicNames
from shared.kafka.connection import client_options, translate_error
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

LEAVE_TIMEOUT_SECONDS = 3.0
REPLICAS = 3


@asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connects an admin client. Raises BrokerUnavailable if no broker answers."""
    admin = AIOKafkaAdminClient(**client_options(settings, client_id="pinflow-admin"))
    try:
        await admin.start()
        yield admin
    except KafkaError as error:
        raise translate_error(error) or error from error
    finally:
        await admin.close()


def list_partitions(description: Mapping[str, Any]) -> list[int]:
    """Returns the partitions of a topic that `describe_topics` returned; none if it is missing.

    Raises TopicAuthorizationFailedError without the right to describe the topic. Kafka then hides
    whether the topic exists, and aiokafka 0.14 returns the error code as a value.
    """
    if description["error_code"] == TopicAuthorizationFailedError.errno:
        raise TopicAuthorizationFailedError(
            f"the right to describe the topic {description['topic']} is missing"
        )
    return sorted(partition["partition"] for partition in description["partitions"])


async def require_topics(settings: KafkaSettings) -> None:
    """Checks that all topics exist.

    Raises BrokerUnavailable if one is missing or Kafka does not answer.
    """
    names = TopicNames(settings.topic_prefix)
    async with admin_client(settings) as admin:
        missing = {names[topic.name] for topic in TOPICS} - set(await admin.list_topics())
    if missing:
        raise BrokerUnavailable(
            f"topics are missing: {', '.join(sorted(missing))}. "
            "Create them with: pinflow topics create"
        )


async def read_cluster_id(settings: KafkaSettings) -> str:
    """Reads the Kafka cluster's id. Raises BrokerUnavailable."""
    async with admin_client(settings) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


class CreatedTopics(NamedTuple):
    """The result of `create_topics`."""

    names: list[str]
    """The topics that were created, without the prefix."""
    partition_mismatches: dict[str, tuple[int, int]]
    """The actual and the expected number of partitions, for existing topics where these differ.
    Names have the prefix."""


async def create_topics(
    settings: KafkaSettings, topics: tuple[Topic, ...] = TOPICS
) -> CreatedTopics:
    """Creates missing topics. Leaves others unchanged: with more partitions, keys would move.

    With at least three brokers, a new topic gets three replicas, of which two must be in sync.
    Raises BrokerUnavailable.
    """
    names = TopicNames(settings.topic_prefix)
    counts = {
        names[topic.name]: topic.choose_partition_count(settings.topic_partitions)
        for topic in topics
    }
    async with admin_client(settings) as admin:
        existing = counts.keys() & set(await admin.list_topics())
        descriptions = await admin.describe_topics(sorted(existing)) if existing else []
        existing_counts = {topic["topic"]: len(topic["partitions"]) for topic in descriptions}
        brokers = len((await admin.describe_cluster())["brokers"])
        replicas = REPLICAS if brokers >= REPLICAS else 1
        in_sync = {"min.insync.replicas": str(max(1, replicas - 1))}
        new = [
            NewTopic(
                names[topic.name],
                counts[names[topic.name]],
                replicas,
                topic_configs=topic.configuration() | in_sync,
            )
            for topic in topics
            if names[topic.name] not in existing
        ]
        if new:
            _check(await admin.create_topics(new))
    mismatches = {
        name: (count, counts[name])
        for name, count in existing_counts.items()
        if count != counts[name]
    }
    return CreatedTopics([topic.name for topic in new], mismatches)


def _check(answer: Response) -> None:
    for topic, code, *_ in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another process was faster
            raise error(topic)


class _LeaveGroupResponse(Response):  # type: ignore[misc]
    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "members",
            Array(
                ("member_id", String("utf-8")),
                ("group_instance_id", String("utf-8")),
                ("error_code", Int16),
            ),
        ),
    )


class _LeaveGroupRequestV3(RequestStruct):  # type: ignore[misc]
    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = _LeaveGroupResponse
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("members", Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")))),
    )


class _LeaveGroupRequest(Request[_LeaveGroupRequestV3]):  # type: ignore[misc]
    API_KEY = 13

    def __init__(self, group: str, group_instance_id: str) -> None:
        self._group = group
        self._group_instance_id = group_instance_id

    def build(self, request_struct_class: type[_LeaveGroupRequestV3]) -> _LeaveGroupRequestV3:
        return request_struct_class(self._group, [("", self._group_instance_id)])


async def leave_group(settings: KafkaSettings, group: str, group_instance_id: str) -> None:
    """Removes a static member, so that others get its partitions before its session times out.

    aiokafka never sends this request for a static member. It implements versions up to 1, which
    can't name a static member. A failure is logged, not raised: others then get the partitions
    after the session timeout.
    """
    client = AIOKafkaClient(**client_options(settings, client_id="pinflow-leave"))
    try:
        async with asyncio.timeout(LEAVE_TIMEOUT_SECONDS):
            await client.bootstrap()
            coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
            await client.ready(coordinator)
            answer = await client.send(coordinator, _LeaveGroupRequest(group, group_instance_id))
        log.info("left_group", group=group, member=group_instance_id, error_code=answer.error_code)
    except (KafkaError, TimeoutError) as error:
        log.warning("leave_failed", group=group, member=group_instance_id, error=repr(error))
    finally:
        await client.close()
