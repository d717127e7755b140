"""Reservations of ports on this machine: exclusive, and released when the process ends."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.layout import CHECKOUT, LocalError
from deploy.local.ports import choose
from deploy.local.reservations import PortReservations

PORT = 28_080
HOLDER = """
import subprocess, sys
from pathlib import Path
from deploy.local.reservations import PortReservations
with PortReservations.open(Path(sys.argv[1])) as reservations:
    assert reservations.acquire(int(sys.argv[2]))
    print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ports.lock"


@contextmanager
def held_by_another_process(file: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """Runs a process that holds the port and has a child that outlives it."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file), str(port)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            yield holder
        finally:
            holder.kill()
            os.kill(child, signal.SIGKILL)


def test_a_port_that_another_process_reserved_is_skipped(file: Path) -> None:
    with held_by_another_process(file, PORT), PortReservations.open(file) as reservations:
        assert not reservations.acquire(PORT)
        assert choose({"gateway": PORT}, reservations.acquire) == {"gateway": PORT + 1}


def test_a_killed_process_reserves_nothing_even_if_its_child_lives_on(file: Path) -> None:
    with held_by_another_process(file, PORT) as holder, PortReservations.open(file) as ours:
        holder.kill()
        holder.wait()
        assert ours.acquire(PORT)


def test_every_user_may_reserve(file: Path) -> None:
    before = os.umask(0o077)
    try:
        with PortReservations.open(file):
            assert stat.S_IMODE(file.stat().st_mode) == 0o666
    finally:
        os.umask(before)
    assert list(file.parent.iterdir()) == [file]


def test_a_symbolic_link_instead_of_the_file_is_refused_with_advice(
    file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "someone's"
    target.write_text("kept", encoding="utf-8")
    file.symlink_to(target)
    with pytest.raises(LocalError, match="remove it, then run make up"):
        PortReservations.open(file).__enter__()
