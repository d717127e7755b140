"""One place that knows how to reach Kafka, for aiokafka's clients; broker.py is for FastStream's."""

import asyncio
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, conn
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

from shared.contract.errors import BrokerUnavailable
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

REQUEST_TIMEOUT_MS = 10_000
DISCARD_SECONDS = 2.0
"""Seconds for each step of discarding a client or a producer. aiokafka bounds none of them."""


class _Connection(conn.AIOKafkaConnection):  # type: ignore[misc]
    """Says that it is broken in words that aiokafka foresees.

    uvloop raises RuntimeError for a write to a connection just closed, asyncio does not; aiokafka
    0.14 knows OSError, and anything else ends the task that sends for good: metadata, fetches,
    heartbeats, a producer (found by make chaos).
    """

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except KafkaError:  # RuntimeErrors too, but aiokafka's own
            raise
        except RuntimeError as error:
            self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(
                f"Connection at {self.host}:{self.port} broken: {error}"
            ) from error


conn.AIOKafkaConnection = _Connection  # every client's: aiokafka takes no class of connections


def client_options(settings: KafkaSettings, *, client_id: str) -> dict[str, Any]:
    """The keyword arguments that every aiokafka client takes."""
    password = settings.kafka_sasl_password
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "client_id": client_id,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": settings.ssl_context,
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": password.get_secret_value() if password else None,
    }


def unavailable(error: KafkaError) -> BrokerUnavailable | None:
    """What a Kafka error means for the caller: the broker is away, or (None) something is wrong
    that waiting won't mend.
    """
    # A batch that found no place in aiokafka's queue in time, as the one before it was not taken:
    # not retriable, says aiokafka
    return (
        BrokerUnavailable(repr(error))
        if error.retriable or isinstance(error, KafkaTimeoutError)
        else None
    )


def is_dead(client: AIOKafkaClient | None) -> bool:
    """Whether this client will never again learn where a partition or a coordinator is.

    aiokafka 0.14 looks for metadata in a task that any error it does not foresee ends for good, and
    silently. Whoever waits for metadata then waits for ever (found by make chaos).
    """
    return _has_ended(client, "_sync_task")


def is_consumer_dead(consumer: AIOKafkaConsumer | None) -> bool:
    """Whether this consumer, not stopped by anyone, will never again fetch, or never again join its
    group.
    """
    return (
        is_dead(getattr(consumer, "_client", None))
        or _has_ended(getattr(consumer, "_fetcher", None), "_fetch_task")
        or _has_ended(getattr(consumer, "_coordinator", None), "_coordination_task")
    )


def is_producer_dead(producer: AIOKafkaProducer | None) -> bool:
    """Whether this producer will never again send, or never again learn where to."""
    return is_dead(getattr(producer, "client", None)) or _has_ended(
        getattr(producer, "_sender", None), "sender_task"
    )


def _has_ended(part: object, name: str) -> bool:
    task = getattr(part, name, None)
    return task is not None and task.done()


def abort_connections(client: AIOKafkaClient) -> None:
    """Drops what was written and not sent yet: a batch that is cut in half is never appended."""
    for connection in client._conns.values():  # noqa: SLF001 - aiokafka's close() would still flush it
        if connection._writer is not None:  # noqa: SLF001
            connection._writer.transport.abort()  # noqa: SLF001


async def close_client(client: AIOKafkaClient) -> None:
    """Closes a client's connections, without waiting for long for what they still have to write."""
    if is_dead(client):
        died, client._sync_task = client._sync_task, None  # noqa: SLF001 - close() would raise what it died of, and close no connection
        log.warning("client_had_died", error=None if died.cancelled() else repr(died.exception()))
    closing = asyncio.create_task(client.close())
    # a connection waits to be rid of what it still has to write
    await asyncio.wait({closing}, timeout=DISCARD_SECONDS)
    if not closing.done():
        closing.cancel()
        log.warning("client_left_behind")
    elif not closing.cancelled() and (error := closing.exception()):
        log.warning("client_not_closed", error=repr(error))
