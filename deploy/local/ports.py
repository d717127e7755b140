"""Chooses ports: the preferred ones, or the next free ones."""

import socket
from collections.abc import Callable, Iterable, Mapping

from deploy.local.layout import LocalError
from deploy.services import SERVICES, WORKERS

PREFERRED = {
    "gateway": 8080,
    **{name: service.port for name, service in SERVICES.items()},
    "postgres": 5432,
    "simulator": 8090,
    **{name: worker.port for name, worker in WORKERS.items()},
}
"""The preferred ports. The simulator's is used only with PINTEREST=simulated, those of workers only
if Pinterest is on. Kafka's are in kafka.py: they depend on the number of brokers."""
MAX_ATTEMPTS = 200


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    # On some systems the bind succeeds although a server listens on another address (*, ::1). That
    # server would answer instead of ours
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def choose(
    preferred: Mapping[str, int], is_available: Callable[[int], bool] = is_free
) -> dict[str, int]:
    """Chooses for each name the preferred port or the next available one. Raises LocalError."""
    chosen: dict[str, int] = {}
    for name, first in preferred.items():
        chosen[name] = _next_available(first, chosen.values(), name, is_available)
    return chosen


def _next_available(
    first: int, taken: Iterable[int], name: str, is_available: Callable[[int], bool]
) -> int:
    last = min(first + MAX_ATTEMPTS, 65536) - 1
    for port in range(first, last + 1):
        if port not in taken and is_available(port):
            return port
    raise LocalError(
        f"There is no free port for {name} between {first} and {last}. Stop the programs that use "
        "them, then run make up again."
    )
