"""Reserves ports, so that several stacks can run on one machine.

A port that is chosen is not bound at once, and a process that is started again does not listen for
some seconds. A stack keeps its ports reserved all the time, so no other stack takes them then.
"""

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.local.layout import LocalError

# Not in $TMPDIR, which may differ between users: all users share the ports.
# Safe in /tmp: no link is followed, and nothing is written into the files
FOLDER = Path("/tmp/pinflow-ports")  # noqa: S108
EVERYONE_CAN_ADD = 0o1777
EVERYONE_CAN_LOCK = 0o666


class PortReservations:
    """Locks a file for each reserved port. The file's name is the port's number.

    A lock lasts until the last process closes the file. A process that inherits the descriptor
    keeps the reservation. The kernel releases it when the process ends, even after a crash.
    """

    def __init__(self, folder: Path, folder_descriptor: int) -> None:
        self._folder = folder
        self._folder_descriptor = folder_descriptor
        self._files: dict[int, int] = {}

    @classmethod
    @contextmanager
    def open(cls, folder: Path = FOLDER) -> Iterator["PortReservations"]:
        """Opens the folder. At the end this process closes its files.

        Raises LocalError if the folder can't be opened.
        """
        try:
            descriptor = _open_folder(folder)
        except OSError as error:
            raise _describe(folder, error) from None
        reservations = cls(folder, descriptor)
        try:
            yield reservations
        finally:
            for file in reservations.descriptors:
                os.close(file)
            os.close(descriptor)

    @property
    def descriptors(self) -> Collection[int]:
        """The locked files. A child process that inherits them keeps the reservations."""
        return self._files.values()

    def acquire(self, port: int) -> bool:
        """Reserves a port, or returns False if it is reserved. Raises LocalError."""
        try:
            file = _open_file(self._folder_descriptor, str(port))
        except OSError as error:
            raise _describe(self._folder / str(port), error) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._files[port] = file
        return True

    def release(self, port: int) -> None:
        os.close(self._files.pop(port))


def _open_folder(folder: Path) -> int:
    with _everyone_allowed(), suppress(FileExistsError):
        folder.mkdir(EVERYONE_CAN_ADD)
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _open_file(folder: int, name: str) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(name, flags, dir_fd=folder)
    # O_EXCL: in a shared folder Linux refuses to open another user's file with O_CREAT alone
    with _everyone_allowed(), suppress(FileExistsError):
        return os.open(name, flags | os.O_CREAT | os.O_EXCL, EVERYONE_CAN_LOCK, dir_fd=folder)
    return os.open(name, flags, dir_fd=folder)


@contextmanager
def _everyone_allowed() -> Iterator[None]:
    """Creates files and folders with exactly the given permissions, whatever the umask."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def _describe(path: Path, error: OSError) -> LocalError:
    return LocalError(
        f"{path} can't be opened: {error.strerror}. All users of this machine reserve their ports "
        "there. Ask its owner to remove it, then run make up again."
    )
