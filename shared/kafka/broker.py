"""Creates, starts and stops a consumer group's member with FastStream (ADR 0032).

No other module uses FastStream. Its handlers, acknowledgements and consume loop are not used,
because they can lose a batch: BatchConsumer calls `fetch` instead.

Separate from connection.py, which the CLI imports: importing FastStream takes 0.1 s.
"""

import logging
from itertools import chain

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import ConsumerStoppedError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared.contract.topics import TopicNames
from shared.kafka.batches import Batch
from shared.kafka.connection import REQUEST_TIMEOUT_MS
from shared.kafka.subscription import Subscription
from shared.runtime.settings import KafkaSettings, ServiceSettings

FETCH_TIMEOUT_MS = 10**10
"""Practically no timeout. aiokafka raises ConsumerStoppedError when the member is stopped."""


class GroupMember:
    """One member of a subscription's consumer group."""

    def __init__(
        self,
        subscription: Subscription,
        settings: ServiceSettings,
        *,
        number: int,
        listener: ConsumerRebalanceListener,
    ) -> None:
        """Builds the member without joining. `number` is its number in the process, from 0."""
        names = TopicNames(settings.topic_prefix)
        self.group = names.group(subscription.name)
        # The assignor assigns partitions in the order of these ids: first to each process's first
        # member, then to each second member (ADR 0019). No replica's name has a dot, so the ids are
        # unique
        suffix = f".{number}" if number else ""
        self.instance_id = f"{self.group}{suffix}-{settings.replica}"
        # Each member has its own FastStream broker. A shared one would start the members one after
        # the other, and each would wait for its partitions. Members of a group must join together
        self._broker = create_broker(
            settings, client_id=f"pinflow-{subscription.name}-{settings.replica}"
        )
        self._subscriber = self._broker.subscriber(
            *(names[topic] for topic in subscription.topics),
            batch=True,
            group_id=self.group,
            group_instance_id=self.instance_id,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset=subscription.offset_reset,
            isolation_level=subscription.isolation,
            max_partition_fetch_bytes=subscription.partition_bytes,
            fetch_min_bytes=subscription.fetch.min_bytes,
            fetch_max_wait_ms=subscription.fetch.wait_ms,
            session_timeout_ms=subscription.session_timeout_ms,
            rebalance_timeout_ms=subscription.session_timeout_ms,
            heartbeat_interval_ms=subscription.session_timeout_ms // 10,
            value_deserializer=subscription.record_filter,
            listener=listener,
        )
        self._max_records = subscription.max_records

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        """aiokafka's consumer. None before the start and after the stop."""
        return self._subscriber.consumer

    async def start(self) -> None:
        """Joins the group. Waits without a limit until the member has its partitions."""
        await self._broker.start()

    async def stop(self) -> None:
        """Closes the connections. A static member stays in its group: see `admin.leave_group`."""
        await self._broker.stop()

    async def fetch(self) -> Batch:
        """Waits for records and returns them. aiokafka's positions are then after them.

        Raises ConsumerStoppedError when the member is stopped.
        """
        consumer = self.consumer
        if consumer is None:
            raise ConsumerStoppedError
        records = await consumer.getmany(timeout_ms=FETCH_TIMEOUT_MS, max_records=self._max_records)
        return tuple(chain.from_iterable(records.values()))


def create_broker(settings: ServiceSettings, *, client_id: str) -> KafkaBroker:
    """Creates a FastStream broker that only consumes.

    FastStream's own producer could lose records with its defaults (acks=1), so it is not created.
    Topics are never created automatically.
    """
    return KafkaBroker(
        settings.kafka_bootstrap_servers.split(","),
        client_id=client_id,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        security=_security(settings),
        consumer_only=True,
        allow_auto_create_topics=False,
        apply_types=False,
        logger=logging.getLogger("pinflow.kafka"),
        log_level=logging.DEBUG,
    )


def _security(settings: KafkaSettings) -> BaseSecurity | None:
    if settings.kafka_security_protocol == "PLAINTEXT":
        return None
    use_ssl = settings.kafka_security_protocol.endswith("SSL")
    if not settings.kafka_security_protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=settings.ssl_context, use_ssl=use_ssl)
    sasl = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    password = settings.kafka_sasl_password
    return sasl[settings.kafka_sasl_mechanism](
        username=settings.kafka_sasl_username or "",
        password=password.get_secret_value() if password else "",
        ssl_context=settings.ssl_context,
        use_ssl=use_ssl,
    )
