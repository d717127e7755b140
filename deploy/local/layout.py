"""Defines where a stack keeps its files: data in `.pinflow/`, programs in `.venv`."""

import hashlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
SOFTWARE = Path(sys.prefix) / "share" / "pinflow"
"""The folder of downloaded servers. It is in the virtual environment, so `make clean` keeps it."""

HOME_VARIABLE = "PINFLOW_HOME"
"""The environment variable with the stack's directory, by default `.pinflow` in the checkout.

Every process of a stack has the variable: it shows which stack the process belongs to.
"""


class LocalError(Exception):
    """A command of the local stack failed. The message says what the user should do next."""


@dataclass(frozen=True)
class Layout:
    """The paths of one stack."""

    directory: Path

    @classmethod
    def from_environment(cls) -> "Layout":
        """Returns the layout in PINFLOW_HOME, or in the checkout's `.pinflow` without it."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or CHECKOUT / ".pinflow").absolute())

    @property
    def env_file(self) -> Path:
        return self.directory / "env"

    @property
    def settings_file(self) -> Path:
        """The user's settings for the services: NAME=value lines, read when the services start.

        See docs/reference/settings.md.
        """
        return self.directory / "settings"

    @property
    def app_secret_file(self) -> Path:
        """The user's file with the secret of the app: docs/how-to/connect-pinterest.md names it."""
        return self.directory / "app-secret"

    @property
    def state_file(self) -> Path:
        return self.directory / "state.json"

    @property
    def installation_file(self) -> Path:
        """The file with the random id of this stack.

        The id is not in the state file: older versions reject unknown names there, so a downgrade
        would fail.
        """
        return self.directory / "installation"

    @property
    def pinterest_file(self) -> Path:
        """The file with the choice of `make up PINTEREST=…`."""
        return self.directory / "pinterest"

    @property
    def token_keys_file(self) -> Path:
        """The keys that encrypt the tokens of connected accounts, one a line."""
        return self.directory / "pinterest-token-keys"

    @property
    def simulator_file(self) -> Path:
        """The simulator's accounts, tokens, boards and pins."""
        return self.directory / "simulator.sqlite"

    @property
    def supervisor_config(self) -> Path:
        return self.directory / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        # Not in the checkout: a socket's path may have at most 104 characters on macOS
        return Path(tempfile.gettempdir()) / f"pinflow-{self.digest}.sock"

    @property
    def digest(self) -> str:
        """A hash of the directory's path, which differs between checkouts."""
        return hashlib.sha256(str(self.directory.resolve()).encode()).hexdigest()[:12]

    def pid_file(self, name: str) -> Path:
        return self.directory / "run" / f"{name}.pid"

    def log_file(self, name: str) -> Path:
        return self.directory / "log" / f"{name}.log"

    def create_directories(self) -> None:
        for name in ("run", "log"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
