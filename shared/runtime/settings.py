"""What every service can be told by its environment: variables with the prefix PINFLOW_."""

import re
import ssl
from functools import cached_property
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contract.topics import PARTITIONS

InstallationId = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{0,64}$")]
ReplicaName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9-]{1,64}$")]
DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
TopicPrefix = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


# Without the input: pydantic's errors would show passwords, of other fields too
_CONFIG = SettingsConfigDict(
    env_prefix="PINFLOW_", frozen=True, extra="ignore", hide_input_in_errors=True
)


def _require_addresses(text: str) -> str:
    for one in filter(None, text.split(",")):
        ip_network(one.strip())  # raises ValueError
    return text


Addresses = Annotated[str, AfterValidator(_require_addresses)]
"""IP addresses and networks, with commas."""


def _require_urls(text: str) -> str:
    return ",".join(
        str(AnyHttpUrl(one.strip())).rstrip("/") for one in text.split(",")
    )  # raises ValueError


Urls = Annotated[str, AfterValidator(_require_urls)]
"""One or several, with commas."""


class KafkaSettings(BaseSettings):
    """How to reach Kafka. Plain text by default; TLS and SASL for anything but a local stack."""

    model_config = _CONFIG

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """host:port, several with commas."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How connections are encrypted (SSL) and who they are from is shown (SASL)."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """With a protocol that has SASL."""
    kafka_sasl_username: str | None = None
    """With a protocol that has SASL."""
    kafka_sasl_password: SecretStr | None = None
    """With a protocol that has SASL."""
    kafka_ssl_ca_file: str | None = None
    """PEM, of who signed the brokers' certificates; the system's authorities if not given."""
    kafka_ssl_certificate_file: str | None = None
    """PEM, for brokers that want a certificate of their clients."""
    kafka_ssl_key_file: str | None = None
    """PEM, the key of that certificate, unless it stands in the same file."""
    topic_prefix: TopicPrefix = "pinflow"
    """The topics' names begin so. Keeps installations on one cluster apart."""
    topic_partitions: Annotated[int, Field(ge=1, le=1000)] = PARTITIONS
    """Of topics that are made now. Those that are there keep theirs, as Kafka tells everyone: with
    more, a key's records would be in two places. How an operator gets more: deploy/README.md.
    """

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context the protocol asks for, or None.

        Raises OSError for a file that can't be read.
        """
        if not self.kafka_security_protocol.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=self.kafka_ssl_ca_file)
        if self.kafka_ssl_certificate_file is not None:
            context.load_cert_chain(self.kafka_ssl_certificate_file, self.kafka_ssl_key_file)
        return context


class DatabaseSettings(BaseSettings):
    """How to reach Postgres.

    TLS is asked for in the URL, as libpq does: ?sslmode=verify-full&sslrootcert=FILE.
    """

    model_config = _CONFIG

    database_url: SecretStr = SecretStr("postgresql://pinflow@127.0.0.1:5432/pinflow")
    """postgresql://USER:PASSWORD@HOST:PORT/DATABASE, as libpq takes it; TLS:
    ?sslmode=verify-full&sslrootcert=FILE. A password may come by PGPASSWORD.
    """
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 8
    """Connections of one process; it holds one more, its lease.

    All replicas together must fit into Postgres' max_connections.
    """
    database_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10
    """How long one transaction may take before the database counts as away."""

    @field_validator("database_url")
    @classmethod
    def _is_a_url_in_one_way_only(cls, value: SecretStr) -> SecretStr:
        # An unquoted character of a password would end it early: the rest is then a host, which
        # every error of libpq's names
        if not _is_database_url(value.get_secret_value()):
            raise ValueError(
                "is not postgresql://USER:PASSWORD@HOST:PORT/DATABASE. "  # pragma: allowlist secret
                "Quote what is special in a password (@ is %40, / is %2F, % is %25), or give it by "
                "PGPASSWORD"
            )
        return value


def _is_database_url(url: str) -> bool:
    scheme, separator, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    _, _, host = authority.rpartition("@")
    unquoted = (
        authority.count("@") > 1
        or any(one in path.partition("?")[0] for one in "/@#")
        or ("@" in path and "@" not in authority)
    )
    is_place = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:@\[\]#?\s]*)(:\d+)?", host) is not None
    is_quoted = re.search(r"%(?![0-9A-Fa-f]{2})", url) is None
    return (
        bool(separator) and scheme in DATABASE_SCHEMES and not unquoted and is_place and is_quoted
    )


class ListSettings(BaseSettings):
    """Bounds of what one page of a list may cost (docs/decisions/0021)."""

    model_config = _CONFIG

    list_scan_limit: Annotated[int, Field(ge=1)] = 50_000
    """Rows of a workspace that one page may look at. Questions that need more are refused (422
    `search_too_wide`), with a narrower one that does not.
    """
    list_count_limit: Annotated[int, Field(ge=1)] = 10_000
    """Up to so many rows a list says how many there are in all (`X-Total-Count`)."""


class UploadSettings(BaseSettings):
    """The retention of uploads. Ingest and status read the same variable."""

    model_config = _CONFIG

    upload_retention_days: Annotated[int, Field(ge=0, le=3650)] = 30
    """Days for which the file or body of an import is kept, so that its failed rows can be given
    back as they were. 0: uploads are not kept."""


class ServiceSettings(KafkaSettings, DatabaseSettings):
    """What all services share."""

    environment: str = "local"
    """A name for the installation, told by /healthz and /readyz."""
    installation: InstallationId = ""
    """An id that /readyz tells in the header X-Pinflow-Installation, if it is given.

    The local stack gives one. It then notices if another installation answers at its addresses.
    """
    replica: ReplicaName = "0"
    """Unique and stable: names the group members of this process."""

    host: str = "127.0.0.1"
    """Where the process listens."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes any that is free."""
    base_url: str = "http://127.0.0.1:8080"
    """The gateway's address, as clients see it."""

    http_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Requests in work at once; more are answered 503.

    Waiting for a body, or for a job's end, is work.
    """
    body_seconds: Annotated[float, Field(gt=0, le=300)] = 20
    """How long a body may take to arrive.

    Below the gateway's read_body, or a slow client gets the gateway's bare answer.
    """

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What is less is not logged."""
    log_format: Literal["json", "console"] = "json"
    """`json`: a line an event. `console`: for eyes."""

    access_cache_seconds: Annotated[float, Field(ge=0, le=10)] = 5
    """How long a checked key is believed. A revocation holds after this (design: at most 10 s)."""
    access_stale_seconds: Annotated[float, Field(ge=0, le=3600)] = 300
    """How long a key checked before is still believed while the database is away."""
    access_failed_tries: Annotated[int, Field(ge=1)] = 60
    """Keys that are not good that one address may try in access_failed_seconds; then 429.

    Each process counts for itself.
    """
    access_failed_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60
    """See access_failed_tries."""
    access_url: Urls = "http://127.0.0.1:8005"
    """Where the access service is told which keys were used, and asked whether it is ready. Several
    replicas with commas: one that answers is enough.
    """
    trusted_proxies: Addresses = "127.0.0.1"
    """Whose X-Forwarded-For is believed: the gateway's addresses or networks, with commas.

    Anyone else's is ignored.
    """

    consumer_max_records: Annotated[int, Field(ge=1, le=10_000)] = 2000
    """Records in a batch.

    500 cost half as much CPU again in the spike that the design comes from.
    """
    consumer_poison_limit: Annotated[int, Field(ge=1)] = 1000
    """Records in a row that may go to dead letters before the consumer stops and asks for a human.
    """
    stop_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 15
    """How long a batch or a request in flight may take to end after SIGTERM."""
