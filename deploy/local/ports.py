"""Chooses ports: the usual ones, or the next that are free."""

import socket
from collections.abc import Callable, Iterable, Mapping

from deploy.local.layout import LocalError
from deploy.services import SERVICES

PREFERRED = {
    "gateway": 8080,
    **{name: service.port for name, service in SERVICES.items()},
    "postgres": 5432,
}
"""Kafka's are in kafka.py: there may be one broker or three."""
TRIES = 200


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    # A server that listens on another address only (*, ::1) does not stop a bind on every system,
    # but would answer in our place
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def choose(
    wanted: Mapping[str, int], is_available: Callable[[int], bool] = is_free
) -> dict[str, int]:
    """Chooses an available port for each name: the wanted one or the next. Raises LocalError."""
    chosen: dict[str, int] = {}
    for name, first in wanted.items():
        chosen[name] = _next_available(first, chosen.values(), name, is_available)
    return chosen


def _next_available(
    first: int, taken: Iterable[int], name: str, is_available: Callable[[int], bool]
) -> int:
    for port in range(first, min(first + TRIES, 65536)):
        if port not in taken and is_available(port):
            return port
    raise LocalError(
        f"No free port for {name} from {first} on; end what listens there and run make up again."
    )
