"""Describes each service once: the whole topology of Pinflow on one page.

The local stack, the roles of the database, the gateway's routes, the OpenAPI document and
docs/reference/settings.md are made from this table. docker-compose.yml and its overlays, the
readiness of the status service and the rights of the database roles are compared with it by tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """One service. It runs as `python -m services.NAME` and owns the schema NAME in Postgres."""

    name: str
    port: int
    """The port in the local stack, if it is free."""
    routes: tuple[str, ...] = ()
    """Path patterns of Caddy that the gateway sends to this service. The first service of the table
    that matches gets the request."""
    reads: frozenset[str] = frozenset({"access"})
    """Schemas of other services that its database role can use."""
    is_required: bool = True
    """Whether Pinflow is ready only while this service is. Without one that is not required
    Pinflow is degraded."""
    uses_kafka: bool = True
    memory_mib: int = 512
    """The memory limit of a container. Its process is killed beyond it, and restarted."""

    @property
    def role(self) -> str:
        """The database role, which only this service logs in as."""
        return f"pinflow_{self.name}"

    @property
    def schema(self) -> str:
        return self.name

    @property
    def password_variable(self) -> str:
        """The variable with the role's password, for `pinflow migrate` and docker-compose.yml."""
        return f"PINFLOW_{self.name.upper()}_PASSWORD"

    @property
    def upstream_variable(self) -> str:
        """The Caddyfile's variable: host:port of each replica, separated by blanks."""
        return f"PINFLOW_{self.name.upper()}_UPSTREAM"

    @property
    def url_variable(self) -> str:
        """The status service's setting: the URL of each replica, separated by commas."""
        return f"PINFLOW_{self.name.upper()}_URL"


_TABLE = (
    ServiceDescription(
        "ingest",
        port=8001,
        routes=("/v1/pins/imports/json", "/v1/pins/imports/csv", "/v1/rate-meter"),
        # Ten imports of the largest size at once take 423 MB (docs/explanation/performance.md)
        memory_mib=1024,
    ),
    ServiceDescription(
        "status",
        port=8003,
        routes=(
            "/v1/pins/imports",
            "/v1/pins/imports/*",
            # Left out of Pinflow: 501, with what to do instead
            "/v1/pins/*/analytics",
            "/v1/pinterest/accounts/*/analytics",
            "/v1/pinterest/oauth/*",
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
        ),
        memory_mib=1024,
    ),
    # Not required: services check keys and boards in the database themselves
    ServiceDescription(
        "access",
        port=8005,
        routes=("/v1/pinterest/*", "/v1/api-keys", "/v1/api-keys/*"),
        reads=frozenset(),
        uses_kafka=False,
        is_required=False,
    ),
    # Not required: events wait for it in Kafka
    ServiceDescription(
        "webhooks", port=8004, routes=("/v1/webhooks", "/v1/webhooks/*"), is_required=False
    ),
)
SERVICES: Mapping[str, ServiceDescription] = {service.name: service for service in _TABLE}

DEFAULT_SERVICE = SERVICES["status"]
"""The service that answers all other paths, and the readiness of the whole."""
CHECKED_SERVICES = tuple(name for name in SERVICES if name != DEFAULT_SERVICE.name)
"""The services whose readiness the status service asks for."""
