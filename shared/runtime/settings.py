"""Defines the settings that services share. Each is an environment variable PINFLOW_<NAME>."""

import re
import ssl
from collections.abc import Iterable
from functools import cached_property
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contract.fault_messages import describe_fault
from shared.contract.field_names import suggest_field
from shared.contract.topics import PARTITIONS

InstallationId = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{0,64}$")]
ReplicaName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9-]{1,64}$")]
DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
TopicPrefix = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


PREFIX = "PINFLOW_"

# Errors leave out the input: pydantic would show all of it, including other fields' passwords
SETTINGS_CONFIG = SettingsConfigDict(
    env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
)


def _require_addresses(text: str) -> str:
    for address in filter(None, text.split(",")):
        ip_network(address.strip())  # raises ValueError
    return text


Addresses = Annotated[str, AfterValidator(_require_addresses)]
"""IP addresses and networks, separated by commas."""


def _require_urls(text: str) -> str:
    return ",".join(
        str(AnyHttpUrl(url.strip())).rstrip("/") for url in text.split(",")
    )  # raises ValueError


Urls = Annotated[str, AfterValidator(_require_urls)]
"""One or more URLs, separated by commas."""


def name_variable(field: str) -> str:
    """Returns the environment variable of a setting."""
    return f"{PREFIX}{field.upper()}"


def list_faults(error: ValidationError) -> list[tuple[str | None, str]]:
    """Lists each invalid variable and what is wrong, without values: they may be passwords.

    A fault of several settings together has no variable.
    """
    return [
        (
            name_variable(str(fault["loc"][0])) if fault["loc"] else None,
            describe_fault(fault),
        )
        for fault in error.errors(include_input=False)
    ]


def describe_invalid_settings(error: ValidationError) -> str:
    """Returns a message with each invalid variable and what is wrong."""
    faults = [": ".join(filter(None, fault)) for fault in list_faults(error)]
    return "\n  ".join(["Some settings are invalid. Correct these variables:", *faults])


def find_unread_variables(settings: BaseSettings, names: Iterable[str]) -> dict[str, str | None]:
    """Returns the variables PINFLOW_* that the settings do not have, each with a suggestion.

    The suggestion is the setting of which the name is a misspelling, or None. The name may also
    belong to another program.
    """
    known = frozenset(map(name_variable, type(settings).model_fields))
    return {
        name: suggest_field(name, known)
        for name in sorted(names)
        if name.upper().startswith(PREFIX) and name.upper() not in known
    }


class KafkaSettings(BaseSettings):
    """The connection to Kafka. Plain text by default: use TLS and SASL outside a local stack."""

    model_config = SETTINGS_CONFIG

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """Kafka brokers as host:port, separated by commas."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """The protocol of connections: SSL encrypts them with TLS, SASL authenticates the client."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """The SASL mechanism. Used if the protocol includes SASL."""
    kafka_sasl_username: str | None = None
    """The SASL user. Needed if the protocol includes SASL."""
    kafka_sasl_password: SecretStr | None = None
    """The SASL user's password. Needed if the protocol includes SASL."""
    kafka_ssl_ca_file: str | None = None
    """A PEM file of the certificate authorities that signed the brokers' certificates. Without it,
    the system's authorities are used."""
    kafka_ssl_certificate_file: str | None = None
    """A PEM file of the client's certificate, for brokers that require one."""
    kafka_ssl_key_file: str | None = None
    """A PEM file of that certificate's private key. Not needed if the certificate's file has it."""
    topic_prefix: TopicPrefix = "pinflow"
    """The prefix of all topic names. Give each installation on a Kafka cluster its own."""
    topic_partitions: Annotated[int, Field(ge=1, le=1000)] = PARTITIONS
    """The number of partitions of each new topic, except dead-letters. Existing topics keep theirs:
    with more, a key's new records would go to a different partition from its old ones. To add
    partitions, follow docs/how-to/run-in-production.md.
    """

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context if the protocol uses TLS, otherwise None.

        Raises OSError if a file can't be read.
        """
        if not self.kafka_security_protocol.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=self.kafka_ssl_ca_file)
        if self.kafka_ssl_certificate_file is not None:
            context.load_cert_chain(self.kafka_ssl_certificate_file, self.kafka_ssl_key_file)
        return context


class DatabaseSettings(BaseSettings):
    """The connection to Postgres.

    For TLS, add libpq's parameters to the URL: ?sslmode=verify-full&sslrootcert=FILE.
    """

    model_config = SETTINGS_CONFIG

    database_url: SecretStr = SecretStr("postgresql://pinflow@127.0.0.1:5432/pinflow")
    """postgresql://USER:PASSWORD@HOST:PORT/DATABASE, in libpq's format. For TLS, add
    ?sslmode=verify-full&sslrootcert=FILE. The password may be in PGPASSWORD instead.
    """
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 8
    """The size of one process's connection pool. One more connection holds its lease on the replica
    name.

    The connections of all replicas together must fit into Postgres' max_connections.
    """
    database_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10
    """The timeout for one transaction. After it, the database counts as unavailable."""

    @field_validator("database_url")
    @classmethod
    def _refuse_ambiguous_url(cls, value: SecretStr) -> SecretStr:
        # An unquoted special character would end the password early. libpq would take the rest for
        # the host, and show it in every error
        if not _is_database_url(value.get_secret_value()):
            raise ValueError(
                "must have the form "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE. "  # pragma: allowlist secret
                "Percent-encode special characters in the password (@ is %40, / is %2F, % is %25), "
                "or set it as PGPASSWORD"
            )
        return value


def _is_database_url(url: str) -> bool:
    scheme, separator, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    _, _, host = authority.rpartition("@")
    has_unquoted_character = (
        authority.count("@") > 1
        or any(character in path.partition("?")[0] for character in "/@#")
        or ("@" in path and "@" not in authority)
    )
    is_host_and_port = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:@\[\]#?\s]*)(:\d+)?", host) is not None
    is_quoted = re.search(r"%(?![0-9A-Fa-f]{2})", url) is None
    return (
        bool(separator)
        and scheme in DATABASE_SCHEMES
        and not has_unquoted_character
        and is_host_and_port
        and is_quoted
    )


class ListSettings(BaseSettings):
    """Limits on the work for one page of a list (docs/decisions/0021)."""

    model_config = SETTINGS_CONFIG

    list_scan_limit: Annotated[int, Field(ge=1)] = 50_000
    """The maximum number of a workspace's rows that are read from one index for one page; a list
    uses one or two indexes. A search that needs more gets 422 `search_too_wide`, and the error
    suggests a narrower search.
    """
    list_count_limit: Annotated[int, Field(ge=1)] = 10_000
    """The maximum number of rows that are counted for a list's `X-Total-Count`. A longer list has
    no such header."""


class UploadSettings(BaseSettings):
    """The retention of uploads. Ingest and status read the same variable."""

    model_config = SETTINGS_CONFIG

    upload_retention_days: Annotated[int, Field(ge=0, le=3650)] = 30
    """The number of days for which an import's file or body is stored, in status.uploads. Meanwhile
    its rows can be downloaded and retried. 0: uploads are not stored."""


class PublisherUrlSettings(BaseSettings):
    """The publisher's address. Ingest, status and access read the same variable."""

    model_config = SETTINGS_CONFIG

    publisher_url: Urls = "http://127.0.0.1:8002"
    """URL of the publisher, or the URLs of its replicas, separated by commas. Ingest asks it what
    would become of the rows of a dry run. Status checks whether one of the replicas is ready, and
    gives it the commands of imports. Access asks it whether the budget of an account allows
    another request to Pinterest.
    """


class ServiceSettings(KafkaSettings, DatabaseSettings):
    """The settings that all services have."""

    environment: str = "local"
    """A name for the installation, such as "production". The gateway's /healthz and /readyz
    return it."""
    installation: InstallationId = ""
    """An id that /readyz returns in the header X-Pinflow-Installation. Empty: no header.

    The local stack sets one, to notice if another installation answers at its addresses.
    """
    replica: ReplicaName = "0"
    """The replica's name: unique among a service's replicas, and the same after a restart. It names
    this process's members in Kafka's consumer groups."""

    host: str = "127.0.0.1"
    """The address at which the process listens."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port at which the process listens. 0: any free port."""
    base_url: str = "http://127.0.0.1:8080"
    """The gateway's URL, as clients see it."""

    http_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """The maximum number of requests in progress at once. Further requests get 503.

    A request that waits for its body or for a job's end is in progress.
    """
    body_seconds: Annotated[float, Field(gt=0, le=300)] = 20
    """The timeout for receiving a request's body.

    Keep it below PINFLOW_GATEWAY_READ_BODY. Otherwise a slow client gets the gateway's answer,
    which does not say what is wrong.
    """

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is logged. Libraries' messages below WARNING are never logged."""
    log_format: Literal["json", "console"] = "json"
    """`json`: one JSON object per line. `console`: text for a terminal."""

    access_cache_seconds: Annotated[float, Field(ge=0, le=10)] = 5
    """The seconds for which a checked API key is valid without another look-up. A revocation takes
    effect within this time. The design allows at most 10 s."""
    access_stale_seconds: Annotated[float, Field(ge=0, le=3600)] = 300
    """The seconds for which a checked API key stays valid while the database is unavailable."""
    access_failed_tries: Annotated[int, Field(ge=1)] = 60
    """The maximum number of invalid API keys that one client address may send in
    PINFLOW_ACCESS_FAILED_SECONDS. Then it gets 429. Each process counts separately.
    """
    access_failed_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60
    """The period for PINFLOW_ACCESS_FAILED_TRIES."""
    access_url: Urls = "http://127.0.0.1:8005"
    """The access service's URL, or the URLs of its replicas, separated by commas. Services report
    used API keys there, and status checks whether one of the replicas is ready.
    """
    internal_token: SecretStr = SecretStr("")
    """The secret with which the services of an installation call each other's routes under
    /internal. Give all of them the same long random value. Without it these routes answer 503, and
    what needs two services is not available: dry runs, and the commands of an import.
    """
    trusted_proxies: Addresses = "127.0.0.1"
    """The gateway's addresses or networks, separated by commas. X-Forwarded-For is used only in
    requests from these.
    """

    consumer_max_records: Annotated[int, Field(ge=1, le=10_000)] = 2000
    """The maximum number of records in one batch of a consumer.

    Smaller batches cost more CPU: with 500, a prototype used 50 % more.
    """
    consumer_poison_limit: Annotated[int, Field(ge=1)] = 1000
    """The maximum number of consecutive unprocessable records that become dead letters. Only
    batches without any other record count. With more, the consumer halts until an operator acts.
    """
    stop_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 15
    """The time that requests in progress get to finish after SIGTERM. Batches in progress then get
    the same time."""
