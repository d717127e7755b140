"""Stores what the stack remembers from one start to the next."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.local.kafka import SIZES, preferred_ports
from deploy.local.layout import LocalError
from deploy.local.ports import PREFERRED
from deploy.migrations.runner import ROLES

OWNER = "owner"


def _new_passwords() -> dict[str, str]:
    return {name: secrets.token_urlsafe(18) for name in (OWNER, *ROLES)}


@dataclass
class State:
    brokers: int = 1
    """How many brokers the data is spread over."""
    ports: dict[str, int] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {**PREFERRED, **preferred_ports(self.brokers), **self.ports}
        self.passwords = {**_new_passwords(), **self.passwords}

    @classmethod
    def load(cls, path: Path, brokers: int | None = None) -> "State":
        """`brokers` as asked for, None for those that there are, or one.

        Raises LocalError: their number never changes.
        """
        if brokers not in (None, *SIZES):
            raise LocalError(
                f"BROKERS={brokers} can't be had: it must be {' or '.join(map(str, SIZES))}."
            )
        if not path.exists():
            return cls(brokers or 1)
        known = cls(**json.loads(path.read_text(encoding="utf-8")))
        if brokers not in (None, known.brokers):
            raise LocalError(
                f"The data here was made with BROKERS={known.brokers}, which can't become "
                f"{brokers}.\n"
                f"Keep it with: make up BROKERS={known.brokers}. Or delete it with make clean, "
                f"then: make up BROKERS={brokers}"
            )
        return known

    def save(self, path: Path) -> None:
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
