"""Names the stack's directories: its data in `.pinflow/`, its programs in `.venv`."""

import hashlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
SOFTWARE = Path(sys.prefix) / "share" / "pinflow"
"""Downloaded servers. They belong to the virtual environment: `make clean` keeps them."""

HOME_VARIABLE = "PINFLOW_HOME"
"""Names another directory than the checkout's `.pinflow`.

Every process of a stack has it, and is known again by it.
"""


class LocalError(Exception):
    """Something the person at the keyboard must know; the message says what to do next."""


@dataclass(frozen=True)
class Layout:
    """The paths of one stack. Its directory is `.pinflow` in the checkout, or a test's own."""

    directory: Path

    @classmethod
    def from_environment(cls) -> "Layout":
        """That of PINFLOW_HOME, if set, else the checkout's."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or CHECKOUT / ".pinflow").absolute())

    @property
    def env_file(self) -> Path:
        return self.directory / "env"

    @property
    def settings_file(self) -> Path:
        """Names the file with a person's settings for the services, NAME=value lines.

        It is read when the stack is started (docs/reference/settings.md).
        """
        return self.directory / "settings"

    @property
    def state_file(self) -> Path:
        return self.directory / "state.json"

    @property
    def installation_file(self) -> Path:
        """A random id of this stack.

        Not a part of the state: an older version, to which one may go back, refuses unknown names.
        """
        return self.directory / "installation"

    @property
    def supervisor_config(self) -> Path:
        return self.directory / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        # Not under the checkout: a socket's path may have 104 characters at most (macOS)
        return Path(tempfile.gettempdir()) / f"pinflow-{self.digest}.sock"

    @property
    def digest(self) -> str:
        """Tells this stack from those of other checkouts."""
        return hashlib.sha256(str(self.directory.resolve()).encode()).hexdigest()[:12]

    def pid_file(self, name: str) -> Path:
        return self.directory / "run" / f"{name}.pid"

    def log_file(self, name: str) -> Path:
        return self.directory / "log" / f"{name}.log"

    def create_directories(self) -> None:
        for name in ("run", "log"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
