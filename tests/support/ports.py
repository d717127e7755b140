"""Ports of this test run's servers.

Concurrent test runs on one machine use different blocks of ports.
"""

import fcntl
import os
import tempfile
from pathlib import Path

FIRST_PORT, BLOCKS, BLOCK_SIZE = 10_000, 37, 610
"""All blocks end below Linux's ephemeral ports, which begin at 32768."""


def _claim() -> int:
    """Claims a block of ports that no other run has, and returns its first port.

    This process keeps the block until it ends, so a restarted server finds its port free.
    """
    for block in range(BLOCKS):
        lock = os.open(
            Path(tempfile.gettempdir(), f"pinflow-tests-{block}.lock"), os.O_CREAT | os.O_RDWR
        )
        try:
            fcntl.flock(
                lock, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # the lock lasts as long as the file is open: until this process ends
        except OSError:
            os.close(lock)
        else:
            return FIRST_PORT + block * BLOCK_SIZE
    raise AssertionError(
        f"All {BLOCKS} blocks of ports are taken by test runs on this machine. Wait until one ends."
    )


_FIRST = _claim()

KAFKA = _FIRST
POSTGRES = _FIRST + 100
FIRST_SERVICE_PORT = _FIRST + 150
"""The first service's port. Each further service's is PORTS_PER_SERVICE higher."""
PORTS_PER_SERVICE = 60
PROXIES = _FIRST + 570
SIMULATOR = _FIRST + 590
