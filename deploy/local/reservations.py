"""Reserves ports, so that several stacks can start on one machine at the same time."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.local.layout import LocalError

# Not in $TMPDIR, which may differ between users: all users share the ports.
# Safe in /tmp: _open never follows a link
FILE = Path("/tmp/pinflow-ports.lock")  # noqa: S108
EVERYONE_CAN_WRITE = 0o666


class PortReservations:
    """Locks one byte of a file for each port: the byte at the offset of the port's number.

    The kernel releases the locks when the process ends, even after a crash, and child processes do
    not inherit them. The locks belong to the process, so open the file only once per process.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    @contextmanager
    def open(cls, file: Path = FILE) -> Iterator["PortReservations"]:
        """Opens the file and releases all reservations at the end.

        Raises LocalError if the file can't be opened.
        """
        try:
            descriptor = _open(file)
        except OSError as error:
            raise LocalError(
                f"{file} can't be opened: {error.strerror}. All users of this machine reserve "
                f"their ports in it. Ask its owner to remove it, then run make up again."
            ) from None
        try:
            yield cls(descriptor)
        finally:
            os.close(descriptor)

    def acquire(self, port: int) -> bool:
        """Reserves a port, or returns False if another process has reserved it."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except (BlockingIOError, PermissionError):  # POSIX allows either error
            return False
        return True


def _open(file: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(file, flags)
    # Linked to its final name only when everyone can write it. Otherwise another user might open
    # it earlier and fail
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}-")
    try:
        os.fchmod(descriptor, EVERYONE_CAN_WRITE)
        with suppress(FileExistsError):
            os.link(temporary, file)
    finally:
        os.close(descriptor)
        Path(temporary).unlink()
    return os.open(file, flags)
