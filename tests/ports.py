"""Where this run's servers listen. Runs that go on side by side on one machine look for their ports in different places."""

import os

BLOCKS = 40
BLOCK_SIZE = 550
"""Forty of these end below Linux' ephemeral ports, which begin at 32768."""
_FIRST = 10_000 + os.getpid() % BLOCKS * BLOCK_SIZE

KAFKA = _FIRST
POSTGRES = _FIRST + 100
SERVICES_FROM = _FIRST + 150
"""Of the first service; the next have theirs SERVICES_APART higher."""
SERVICES_APART = 100
PROXIES = _FIRST + 510
