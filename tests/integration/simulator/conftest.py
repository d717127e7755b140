"""Fixtures of the simulator's tests: one simulator for each module."""

from collections.abc import Iterator

import pytest

from tests.support.simulator import Simulator, running_simulator


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator() as running:
        yield running
