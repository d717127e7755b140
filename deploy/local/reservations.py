"""Reserves ports against other stacks of this machine that start at the same moment."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.local.layout import LocalError

# Not $TMPDIR, which may be one user's own: the ports are the whole machine's
# Never created or followed as a link, see _open
FILE = Path("/tmp/pinflow-ports.lock")  # noqa: S108
FOR_EVERYONE = 0o666


class PortReservations:
    """Locks one byte of a file for each port, at the offset that is the port's number.

    The kernel releases these locks when the process ends, however it ends, and child processes do
    not inherit them. They belong to the process: open the file only once in each.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    @contextmanager
    def open(cls, file: Path = FILE) -> Iterator["PortReservations"]:
        """Releases all reservations at the end. Raises LocalError if the file is not usable."""
        try:
            descriptor = _open(file)
        except OSError as error:
            raise LocalError(
                f"{file} can't be opened: {error.strerror}. It reserves ports for all users of "
                f"this machine. Ask its owner to remove it, then run make up again."
            ) from None
        try:
            yield cls(descriptor)
        finally:
            os.close(descriptor)

    def acquire(self, port: int) -> bool:
        """Reserves a port, or returns False if another process has reserved it."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return False
        return True


def _open(file: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(file, flags)
    # Linked into place when everyone may write it: another user must not meet it before
    descriptor, made = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}-")
    try:
        os.fchmod(descriptor, FOR_EVERYONE)
        with suppress(FileExistsError):
            os.link(made, file)
    finally:
        os.close(descriptor)
        Path(made).unlink()
    return os.open(file, flags)
