"""Serializes the commands on one stack."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from deploy.local.layout import Layout


class CommandLock:
    """The lock of a stack's directory. Commands in several processes share its file."""

    def __init__(self, layout: Layout, report: Callable[[str], None]) -> None:
        self.file = layout.directory / "lock"
        self._layout = layout
        self._report = report

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the lock and creates the stack's folders. A second command waits for the first."""
        while (file := self._open_locked()) is None:
            pass  # another command's `clean` has deleted the file: lock the new one
        with file:
            self._layout.create_directories()
            yield

    def _open_locked(self) -> TextIO | None:
        """Waits for the lock, and returns its file. Returns None if the file was deleted."""
        try:
            self._create_directory()
            file = self.file.open("w")
        except FileNotFoundError:
            return None
        # If this command is killed, the next one waits for programs that it ran (kafka.py,
        # postgres.py)
        os.set_inheritable(file.fileno(), True)  # noqa: FBT003
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._report("waiting for another make up, down, clean or demo in this directory")
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), self.file.stat()):
                return file
        file.close()
        return None

    def _create_directory(self) -> None:
        """Creates the stack's directory.

        Raises FileNotFoundError if another command's `clean` deleted it meanwhile, and
        FileExistsError if something else has its name.
        """
        directory = self._layout.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            # pathlib looks for the directory after it failed to create it: a `clean` can be between
            if os.path.lexists(directory) and not directory.is_dir():
                raise
            raise FileNotFoundError(directory) from error
