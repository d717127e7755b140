"""Keeps the choice of `make up PINTEREST=…`, and runs the simulator of Pinterest."""

import sys
from collections.abc import Mapping

import httpx
from cryptography.fernet import Fernet

from deploy.local.layout import CHECKOUT, Layout, LocalError
from deploy.local.programs import Program
from deploy.service_settings import find_settings
from deploy.simulator.options import Options
from shared.runtime.settings import name_variable

SIMULATOR = "simulator"
OFF, SIMULATED = "off", "simulated"
CHOICES = (OFF, SIMULATED)

MODE = "PINFLOW_PINTEREST_MODE"
SIMULATOR_URL = "PINFLOW_PINTEREST_SIMULATOR_URL"
TOKEN_KEYS, TOKEN_KEYS_FILE = "PINFLOW_PINTEREST_TOKEN_KEYS", "PINFLOW_PINTEREST_TOKEN_KEYS_FILE"
SECRETS = frozenset(
    {
        "PINFLOW_PINTEREST_APP_SECRET",
        "PINFLOW_PINTEREST_APP_SECRET_FILE",
        TOKEN_KEYS,
        TOKEN_KEYS_FILE,
    }
)
"""Settings that a process gets only if it reads them: the access service."""
WRITES_PER_MINUTE = 6000
"""The limit of the local simulator and of the local delivery process. With Pinterest's limit of 100
the demo would take 3 minutes."""
SPEED = {
    "PINFLOW_DELIVERY_SPACING_SECONDS": "0",
    "PINFLOW_DELIVERY_DAILY_PINS": "100000",
    "PINFLOW_DELIVERY_ACCOUNT_WRITES_PER_MINUTE": str(WRITES_PER_MINUTE),
}
"""Settings of the delivery to the simulator, unless the user has chosen others."""
CHOSEN = frozenset(
    {
        MODE,
        "PINFLOW_PINTEREST_API_URL",
        "PINFLOW_PINTEREST_APP_ID",
        "PINFLOW_PINTEREST_APP_SECRET",
        "PINFLOW_PINTEREST_APP_SECRET_FILE",
        "PINFLOW_PINTEREST_REDIRECT_URL",
        SIMULATOR_URL,
    }
)
"""Settings that `make up PINTEREST=simulated` chooses itself."""


class PinterestChoice:
    """Decides whether the stack has a simulator. Without `requested` the stored choice counts."""

    def __init__(self, layout: Layout, requested: str | None) -> None:
        """Raises LocalError for an unknown choice."""
        if requested not in (None, *CHOICES):
            raise LocalError(
                f"PINTEREST={requested} is not possible. Use {' or '.join(CHOICES)}. To use an app "
                "at Pinterest, set PINFLOW_PINTEREST_MODE in .pinflow/settings "
                "(docs/how-to/connect-pinterest.md)."
            )
        self._layout = layout
        self._requested = requested

    @property
    def is_simulated(self) -> bool:
        return (self._requested or self._stored) == SIMULATED

    def require_running(self, programs: Mapping[str, str]) -> None:
        """Raises LocalError if a stack with these programs has a different choice."""
        running = SIMULATED if SIMULATOR in programs else OFF
        if self._requested not in (None, running):
            raise LocalError(
                f"Pinflow is running with PINTEREST={running}. Nothing was changed. Run make down, "
                f"then make up PINTEREST={self._requested}."
            )

    def save(self) -> None:
        # Not in the state file: older versions refuse unknown names there
        choice = SIMULATED if self.is_simulated else OFF
        self._layout.pinterest_file.write_text(f"{choice}\n", encoding="utf-8")

    @property
    def _stored(self) -> str:
        file = self._layout.pinterest_file
        return file.read_text(encoding="utf-8").strip() if file.exists() else OFF


def find_mode(values: Mapping[str, str], simulator_url: str | None) -> str:
    """Returns PINFLOW_PINTEREST_MODE of the stack. `values` are the user's settings."""
    if simulator_url is not None:
        return SIMULATED
    return next((value for name, value in values.items() if name.upper() == MODE), OFF)


def build_settings(
    layout: Layout, *, values: Mapping[str, str], simulator_url: str | None
) -> dict[str, str]:
    """Returns the settings of Pinterest that the stack adds to those of the user.

    `values` are the user's settings. Creates the file with the keys of tokens if there is none and
    the user has no keys.
    """
    mode = find_mode(values, simulator_url)
    own = {*map(str.upper, values)}
    settings = {}
    if simulator_url is not None:
        settings = {
            **{name: value for name, value in SPEED.items() if name not in own},
            MODE: mode,
            SIMULATOR_URL: simulator_url,
            "PINFLOW_PINTEREST_APP_ID": Options.app_id,
            "PINFLOW_PINTEREST_APP_SECRET": Options.app_secret,
        }
    if mode != OFF and not {TOKEN_KEYS, TOKEN_KEYS_FILE} & own:
        _create_token_keys(layout)
        settings[TOKEN_KEYS_FILE] = str(layout.token_keys_file)
    return settings


def select_settings(name: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Returns those of the settings that a service or a worker reads."""
    read = set(map(name_variable, find_settings(name).model_fields))
    return {variable: value for variable, value in settings.items() if variable.upper() in read}


def leave_out_secrets(name: str, values: Mapping[str, str]) -> dict[str, str]:
    """Returns the user's settings without secrets that the service or the worker does not read."""
    read = set(map(name_variable, find_settings(name).model_fields))
    hidden = SECRETS - read
    return {variable: value for variable, value in values.items() if variable.upper() not in hidden}


def simulator_program(layout: Layout, port: int) -> Program:
    """Returns the program that runs the simulator. Its data survives a restart."""
    command = (
        sys.executable,
        "-m",
        "deploy.simulator",
        "--port",
        str(port),
        "--data",
        str(layout.simulator_file),
        "--writes-per-minute",
        str(WRITES_PER_MINUTE),
    )
    # It stops after the delivery process, which may call it until then
    return Program(SIMULATOR, command, {"PYTHONPATH": str(CHECKOUT)}, start_order=1)


def find_problem(url: str) -> str | None:
    """Returns None if the simulator answers, or the reason why it doesn't."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        return f"no answer from the simulator: {error}"
    return None if answer.is_success else answer.text


def _create_token_keys(layout: Layout) -> None:
    file = layout.token_keys_file
    if file.exists():
        return
    # Replaced at once: with an empty file, after a kill, the service would not start
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(f"{Fernet.generate_key().decode()}\n", encoding="ascii")
    new.replace(file)
