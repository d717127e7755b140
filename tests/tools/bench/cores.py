"""Divides the cores: services on one half, servers and load generator on the other.

Neither half takes CPU from the other, so each one's limit shows.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class CoreHalves(NamedTuple):
    services: frozenset[int]
    """Cores of the services and the gateway."""
    servers: frozenset[int]
    """Cores of Kafka, Postgres and the load generator, whose CPU is reported separately."""


def split_cores() -> CoreHalves:
    """Splits the cores that this process may use.

    Raises ValueError if there are fewer than two, or if the system has no CPU affinity.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise ValueError("This system does not let a process choose its cores.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ValueError("This process may use only one core. Two are needed.")
    return CoreHalves(frozenset(cores[: len(cores) // 2]), frozenset(cores[len(cores) // 2 :]))


@contextmanager
def pin_to_cores(cores: frozenset[int] | None) -> Iterator[None]:
    """Pins this thread, and every process that it starts meanwhile, to `cores`.

    None changes nothing.
    """
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
