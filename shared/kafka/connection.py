"""Builds the options of aiokafka's clients, and translates their errors.

FastStream's options are in broker.py.
"""

from typing import Any

from aiokafka.errors import KafkaError, KafkaTimeoutError

from shared.contract.errors import BrokerUnavailable
from shared.kafka import aiokafka_internals
from shared.runtime.settings import KafkaSettings

REQUEST_TIMEOUT_MS = 10_000

aiokafka_internals.install()


def client_options(settings: KafkaSettings, *, client_id: str) -> dict[str, Any]:
    """Returns the keyword arguments for every aiokafka client."""
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


def translate_error(error: KafkaError) -> BrokerUnavailable | None:
    """Translates a temporary Kafka error into BrokerUnavailable. Returns None for any other."""
    # KafkaTimeoutError: aiokafka's queue was full, because Kafka did not acknowledge the previous
    # batch in time. aiokafka does not classify that as retriable
    return (
        BrokerUnavailable(repr(error))
        if error.retriable or isinstance(error, KafkaTimeoutError)
        else None
    )
