"""What is started on some cores stays there; what starts it comes back."""

import os
import subprocess
import sys

import pytest

from tests.tools.bench.cores import CoreHalves, pin_to_cores, split_cores

ASK = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")


def test_what_is_started_stays_and_who_started_it_comes_back() -> None:
    before = os.sched_getaffinity(0)
    one = frozenset(sorted(before)[-1:])
    with pin_to_cores(one):
        assert os.sched_getaffinity(0) == one
        said = subprocess.run(ASK, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(sorted(one))
    assert os.sched_getaffinity(0) == before
    with pin_to_cores(None):
        assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("there", "services", "servers"),
    [({0, 1}, {0}, {1}), ({2, 3, 5}, {2}, {3, 5}), ({0, 1, 2, 3}, {0, 1}, {2, 3})],
)
def test_halves_have_no_core_in_common_and_all_together(
    monkeypatch: pytest.MonkeyPatch, there: set[int], services: set[int], servers: set[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: there)
    assert split_cores() == CoreHalves(frozenset(services), frozenset(servers))


def test_one_core_is_not_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    with pytest.raises(ValueError, match="one core"):
        split_cores()
