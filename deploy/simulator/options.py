"""Defines the simulator's options and the settings that can be changed while it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DAY = 24 * 60 * 60
Access = Literal["standard", "trial"]
Category = Literal["org_read", "org_write"]
"""Operations of one category share a rate limit."""


@dataclass(frozen=True)
class Options:
    """Holds the options of the command line. The app's options apply at each start."""

    host: str = "127.0.0.1"
    port: int = 8090
    data: Path | None = None
    """The SQLite file. Without it, the state is in memory and ends with the process."""
    app_id: str = "1000001"
    app_secret: str = "simulated-secret"  # noqa: S105 - the simulator protects nothing
    redirect_urls: tuple[str, ...] = ()
    """The registered redirect URLs. Without any, all URLs on a loopback address are registered."""
    seed: int = 0
    """Decides which requests meet an injected fault."""
    writes_per_minute: int = 100
    """The limit of a user's writes in a minute, with Standard access. Pinterest's is 100."""


@dataclass(frozen=True)
class Settings:
    """Holds the settings that `POST /_simulator/settings` changes. They are in the data file."""

    access: Access = "standard"
    """The app's access at Pinterest."""
    access_token_seconds: int = 30 * DAY
    refresh_token_seconds: int = 60 * DAY
    code_seconds: int = 60
    single_use: bool = False
    """True: a refresh token is dead as soon as it was used. False: it works until the access
    token that it was exchanged for is used for the first time."""
    buckets: bool = True
    """False: there are no rate limits."""
    pin_updates: bool = False
    """True: the app may change pins. Pinterest allows this to few apps."""
