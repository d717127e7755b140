"""How FastStream reaches Kafka.

Apart from connection.py, as the command line needs no broker, whose import takes a tenth of a
second.
"""

import logging

from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared.kafka.connection import REQUEST_TIMEOUT_MS
from shared.runtime.settings import KafkaSettings, ServiceSettings


def create_broker(settings: ServiceSettings, *, client_id: str) -> KafkaBroker:
    """A FastStream broker that only consumes.

    Its own producer stays unmade (its defaults lose records: acks=1), topics are never created by
    accident, and the handler gets the raw batch: FastDepends would parse record by record, at 20
    times the cost.
    """
    return KafkaBroker(
        settings.kafka_bootstrap_servers.split(","),
        client_id=client_id,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        security=_security(settings),
        consumer_only=True,
        allow_auto_create_topics=False,
        apply_types=False,
        # None or 0 would cancel the batch in flight
        graceful_timeout=settings.stop_timeout_seconds,
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
