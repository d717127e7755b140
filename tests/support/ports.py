"""Where this run's servers listen.

Runs that go on side by side on one machine look for their ports in different places.
"""

import fcntl
import os
import tempfile
from pathlib import Path

FIRST_PORT, BLOCKS, BLOCK_SIZE = 10_000, 40, 550
"""All of these end below Linux' ephemeral ports, which begin at 32768."""


def _claim() -> int:
    """The first port of a block that no other run has; ours until this process ends, so that a
    killed server finds its port free again.
    """
    for block in range(BLOCKS):
        lock = os.open(
            Path(tempfile.gettempdir(), f"pinflow-tests-{block}.lock"), os.O_CREAT | os.O_RDWR
        )
        try:
            fcntl.flock(
                lock, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # held by the open file: it is never closed
        except OSError:
            os.close(lock)
        else:
            return FIRST_PORT + block * BLOCK_SIZE
    raise AssertionError(f"{BLOCKS} runs at once on one machine")


_FIRST = _claim()

KAFKA = _FIRST
POSTGRES = _FIRST + 100
FIRST_SERVICE_PORT = _FIRST + 150
"""Of the first service; the next have theirs SERVICES_APART higher."""
PORTS_PER_SERVICE = 60
PROXIES = _FIRST + 510
