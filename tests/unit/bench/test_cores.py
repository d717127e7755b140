"""Pinning to cores: a started process stays on them, and its parent gets its former cores back."""

import os
import subprocess
import sys

import pytest

from tests.tools.bench.cores import CoreHalves, pin_to_cores, split_cores

PRINT_CORES = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")


def test_a_started_process_stays_on_its_cores_and_its_parent_returns() -> None:
    before = os.sched_getaffinity(0)
    last_core = frozenset(sorted(before)[-1:])
    with pin_to_cores(last_core):
        assert os.sched_getaffinity(0) == last_core
        output = subprocess.run(PRINT_CORES, capture_output=True, text=True, check=True).stdout
    assert output.strip() == str(sorted(last_core))
    assert os.sched_getaffinity(0) == before
    with pin_to_cores(None):
        assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("available", "services", "servers"),
    [({0, 1}, {0}, {1}), ({2, 3, 5}, {2}, {3, 5}), ({0, 1, 2, 3}, {0, 1}, {2, 3})],
)
def test_the_halves_are_disjoint_and_cover_all_cores(
    monkeypatch: pytest.MonkeyPatch, available: set[int], services: set[int], servers: set[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: available)
    assert split_cores() == CoreHalves(frozenset(services), frozenset(servers))


def test_one_core_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    with pytest.raises(ValueError, match="one core"):
        split_cores()
