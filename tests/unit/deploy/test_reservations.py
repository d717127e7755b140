"""Reservations of ports on this machine: exclusive, and kept by the process that inherits them."""

import os
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
    inherited = tuple(reservations.descriptors) if sys.argv[3] == "inherit" else ()
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=inherited
    )
    print(child.pid, flush=True)
    child.wait()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ports"


@contextmanager
def held_by_another_process(
    folder: Path, port: int, child: str = "inherit"
) -> Iterator["subprocess.Popen[str]"]:
    """Runs a process that holds the port and has a child that lives until the end of the block."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(port), child],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline()
        try:
            yield holder
        finally:
            holder.kill()
            holder.stdin.close()
            holder.stdout.read()  # ends when the child has ended


def test_a_port_that_another_process_reserved_is_skipped(folder: Path) -> None:
    with held_by_another_process(folder, PORT), PortReservations.open(folder) as reservations:
        assert not reservations.acquire(PORT)
        assert choose({"gateway": PORT}, reservations.acquire) == {"gateway": PORT + 1}


def test_a_child_that_inherits_the_descriptors_keeps_the_reservation(folder: Path) -> None:
    with held_by_another_process(folder, PORT) as holder, PortReservations.open(folder) as ours:
        holder.kill()
        holder.wait()
        assert not ours.acquire(PORT)
    with PortReservations.open(folder) as ours:
        assert ours.acquire(PORT)


def test_a_killed_process_reserves_nothing_even_if_another_child_lives_on(folder: Path) -> None:
    with (
        held_by_another_process(folder, PORT, "close") as holder,
        PortReservations.open(folder) as ours,
    ):
        assert not ours.acquire(PORT)
        holder.kill()
        holder.wait()
        assert ours.acquire(PORT)


def test_a_released_port_can_be_reserved_again(folder: Path) -> None:
    with PortReservations.open(folder) as ours, PortReservations.open(folder) as theirs:
        assert ours.acquire(PORT)
        assert not theirs.acquire(PORT)
        ours.release(PORT)
        assert theirs.acquire(PORT)


def test_every_user_may_reserve_every_port(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        with PortReservations.open(folder) as reservations:
            assert reservations.acquire(PORT)
            assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
            assert stat.S_IMODE((folder / str(PORT)).stat().st_mode) == 0o666
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_a_symbolic_link_instead_of_the_folder_is_refused_with_advice(
    folder: Path, tmp_path: Path
) -> None:
    folder.symlink_to(tmp_path)
    with pytest.raises(LocalError, match="remove it, then run make up"):
        PortReservations.open(folder).__enter__()


def test_a_symbolic_link_instead_of_a_file_is_refused_with_advice(
    folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "someone's"
    with PortReservations.open(folder) as reservations:
        (folder / str(PORT)).symlink_to(target)
        with pytest.raises(LocalError, match=f"ports/{PORT} can't be opened"):
            reservations.acquire(PORT)
    assert not target.exists()
