"""Describes each service once: the topology of Pinflow.

Generated from these tables: the local stack, the database roles, the gateway's routes, the OpenAPI
document and docs/reference/settings.md. Compared with them by tests: docker-compose.yml and its
overlays, the readiness of the status service, and the privileges of the database roles.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """One service. It runs as `python -m services.NAME` and owns the Postgres schema NAME."""

    name: str
    port: int
    """The port in the local stack. If it is taken, the next free port is used."""
    routes: tuple[str, ...] = ()
    """Caddy path patterns that the gateway routes to this service. If several services match a
    path, the first in the table gets the request."""
    reads: frozenset[str] = frozenset({"access"})
    """Schemas of other services that this service's database role can read."""
    is_required: bool = True
    """True if Pinflow is ready only while this service is ready. Without an optional service
    Pinflow is degraded."""
    uses_kafka: bool = True
    memory_mib: int = 512
    """The container's memory limit. A process that exceeds it is killed and restarted."""

    @property
    def role(self) -> str:
        """The database role that only this service uses."""
        return f"pinflow_{self.name}"

    @property
    def schema(self) -> str:
        return self.name

    @property
    def password_variable(self) -> str:
        """The environment variable with the role's password.

        `pinflow migrate` and docker-compose.yml read it.
        """
        return f"PINFLOW_{self.name.upper()}_PASSWORD"

    @property
    def upstream_variable(self) -> str:
        """The Caddyfile's variable with host:port of each of this service's replicas."""
        return f"PINFLOW_{self.name.upper()}_UPSTREAM"

    @property
    def url_variable(self) -> str:
        """The variable from which status reads the URLs of this service's replicas."""
        return f"PINFLOW_{self.name.upper()}_URL"


@dataclass(frozen=True, slots=True)
class WorkerDescription:
    """A process of a service beside the one that has its routes.

    It runs as `python -m services.SERVICE.NAME`, with the role of the service.
    """

    name: str
    service: str
    port: int
    """The port in the local stack. Only monitoring uses it."""
    memory_mib: int
    """The container's memory limit."""

    @property
    def module(self) -> str:
        return f"services.{self.service}.{self.name}"

    @property
    def role(self) -> str:
        """The database role of the service."""
        return SERVICES[self.service].role

    @property
    def password_variable(self) -> str:
        return SERVICES[self.service].password_variable

    @property
    def url_variable(self) -> str:
        """The variable from which status reads the URLs of this worker's replicas."""
        return f"PINFLOW_{self.name.upper()}_URL"


_TABLE = (
    ServiceDescription(
        "ingest",
        port=8001,
        routes=("/v1/pins/imports/json", "/v1/pins/imports/csv", "/v1/rate-meter"),
        # Ten concurrent imports of the maximum size take 423 MB, as
        # docs/explanation/performance-history.md says
        memory_mib=1024,
    ),
    ServiceDescription(
        "status",
        port=8003,
        routes=(
            "/v1/pins/imports",
            "/v1/pins/imports/*",
            # Not supported by Pinflow: 501 with an alternative
            "/v1/pins/*/analytics",
            "/v1/pinterest/accounts/*/analytics",
            "/v1/pinterest/terms/related",
        ),
    ),
    ServiceDescription(
        "publisher",
        port=8002,
        routes=(
            "/v1/pins",
            "/v1/pins/*",
            "/v1/schedules",
            "/v1/schedules/*",
            "/v1/jobs/*",
            "/v1/deliveries",
        ),
        memory_mib=1024,
    ),
    # Optional: the other services check keys and boards in the database themselves
    ServiceDescription(
        "access",
        port=8005,
        routes=("/v1/pinterest/*", "/v1/api-keys", "/v1/api-keys/*"),
        reads=frozenset(),
        uses_kafka=False,
        is_required=False,
    ),
    # Optional: events wait for it in Kafka
    ServiceDescription(
        "webhooks", port=8004, routes=("/v1/webhooks", "/v1/webhooks/*"), is_required=False
    ),
)
SERVICES: Mapping[str, ServiceDescription] = {service.name: service for service in _TABLE}

# Optional: pins wait in Postgres. It runs only if PINFLOW_PINTEREST_MODE is not off
DELIVERY = WorkerDescription("delivery", service="publisher", port=8006, memory_mib=384)
WORKERS: Mapping[str, WorkerDescription] = {DELIVERY.name: DELIVERY}

DEFAULT_SERVICE = SERVICES["status"]
"""The service that answers all other paths. Its /readyz reports the readiness of all services."""
CHECKED_SERVICES = tuple(name for name in SERVICES if name != DEFAULT_SERVICE.name)
"""The services whose readiness the status service checks."""
