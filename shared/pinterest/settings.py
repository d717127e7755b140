"""Defines the settings of calls to Pinterest, and those of the app at Pinterest."""

from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.fernet import Fernet
from pydantic import AnyHttpUrl, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from shared.runtime.settings import SETTINGS_CONFIG

Mode = Literal["off", "simulated", "sandbox", "production"]

API_URLS = {
    "sandbox": "https://api-sandbox.pinterest.com/v5",
    "production": "https://api.pinterest.com/v5",
}
CONSENT_URL = "https://www.pinterest.com/oauth/"


class PinterestModeSettings(BaseSettings):
    """Says which Pinterest is used. Off by default: no request leaves Pinflow."""

    model_config = SETTINGS_CONFIG

    pinterest_mode: Mode = "off"
    """`off`: accounts can't be connected. `simulated`: the simulator of Pinflow stands for
    Pinterest. `sandbox` and `production`: Pinterest. A connection belongs to the mode in which it
    was made. While the mode is `off`, pins of connected accounts wait."""

    @property
    def is_pinterest_on(self) -> bool:
        return self.pinterest_mode != "off"


class PinterestApiSettings(PinterestModeSettings):
    """Names Pinterest's API."""

    pinterest_simulator_url: str = "http://127.0.0.1:8090"
    """The simulator's URL. Used if the mode is `simulated`."""
    pinterest_api_url: str = ""
    """The URL of Pinterest's API, with the version. Empty: the one of the mode."""
    pinterest_timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 20
    """The timeout of one request to Pinterest."""

    @property
    def api_url(self) -> str:
        """The URL before the paths of Pinterest's API description, without a slash at the end."""
        default = API_URLS.get(self.pinterest_mode, f"{self._simulator}/v5")
        return self.pinterest_api_url.rstrip("/") or default

    @property
    def consent_url(self) -> str:
        """The page where a user of Pinterest allows the app to act."""
        return f"{self._simulator}/oauth/" if self.pinterest_mode == "simulated" else CONSENT_URL

    @property
    def _simulator(self) -> str:
        return self.pinterest_simulator_url.rstrip("/")


class PinterestSettings(PinterestApiSettings):
    """The app that is registered with Pinterest. Only the access service reads its secrets."""

    pinterest_app_id: str = ""
    """The app's id at Pinterest. Required unless the mode is `off`."""
    pinterest_app_secret: SecretStr = SecretStr("")
    """The app's secret key at Pinterest. Required unless the mode is `off` or it is in a file."""
    pinterest_app_secret_file: Path | None = None
    """A file with the app's secret key, instead of PINFLOW_PINTEREST_APP_SECRET."""
    pinterest_token_keys: SecretStr = SecretStr("")
    """The keys that encrypt the tokens in the database, separated by commas. The first encrypts;
    all decrypt. `pinflow accounts new-token-key` prints a new one. Required unless the mode is
    `off` or they are in a file. How to replace a key: docs/how-to/connect-pinterest.md."""
    pinterest_token_keys_file: Path | None = None
    """A file with these keys, one a line, instead of PINFLOW_PINTEREST_TOKEN_KEYS."""

    @property
    def app_secret(self) -> str:
        """Raises OSError if the file can't be read."""
        if self.pinterest_app_secret_file is not None:
            return self.pinterest_app_secret_file.read_text(encoding="utf-8").strip()
        return self.pinterest_app_secret.get_secret_value()

    @property
    def token_keys(self) -> tuple[bytes, ...]:
        """The keys, the one that encrypts first. Raises OSError if the file can't be read."""
        if self.pinterest_token_keys_file is not None:
            text = self.pinterest_token_keys_file.read_text(encoding="utf-8")
        else:
            text = self.pinterest_token_keys.get_secret_value()
        return tuple(key.encode() for key in text.replace(",", " ").split())

    @model_validator(mode="after")
    def _require_app(self) -> Self:
        if not self.is_pinterest_on:
            return self
        AnyHttpUrl(self.api_url)  # raises ValueError
        AnyHttpUrl(self.consent_url)
        try:
            missing = [
                name
                for name, value in (
                    ("PINFLOW_PINTEREST_APP_ID", self.pinterest_app_id),
                    ("PINFLOW_PINTEREST_APP_SECRET", self.app_secret),
                    ("PINFLOW_PINTEREST_TOKEN_KEYS", self.token_keys),
                )
                if not value
            ]
            keys = self.token_keys
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"A file of PINFLOW_PINTEREST_* can't be read: {error}") from None
        if missing:
            raise ValueError(
                f"PINFLOW_PINTEREST_MODE is {self.pinterest_mode}, so set {', '.join(missing)}, "
                "or the variable with the name of its file"
            )
        for number, key in enumerate(keys, 1):
            _require_token_key(number, key)
        return self


def _require_token_key(number: int, key: bytes) -> None:
    try:
        Fernet(key)
    except ValueError:
        raise ValueError(
            f"Key {number} of PINFLOW_PINTEREST_TOKEN_KEYS is not a key. Make one with: pinflow "
            "accounts new-token-key"
        ) from None
