"""Services on one half of the cores, the servers and the load on the other: neither takes the
other's time, and each one's limit shows.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class CoreHalves(NamedTuple):
    services: frozenset[int]
    """With the gateway."""
    servers: frozenset[int]
    """Kafka and Postgres, with the generator, whose part is reported apart."""


def split_cores() -> CoreHalves:
    """Of those that this process may use.

    Raises ValueError where there are no two, or the system does not let one choose.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise ValueError("this system does not let a process choose its cores")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ValueError("one core can't be halved")
    return CoreHalves(frozenset(cores[: len(cores) // 2]), frozenset(cores[len(cores) // 2 :]))


@contextmanager
def pin_to_cores(cores: frozenset[int] | None) -> Iterator[None]:
    """This thread, and what it starts meanwhile with all of its threads and children, stays on
    these; None: wherever it was.
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
