"""Stores the choices that a stack keeps from one start to the next."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.local.kafka import BROKER_COUNTS, preferred_ports
from deploy.local.layout import LocalError
from deploy.local.ports import PREFERRED
from deploy.migrations.runner import ROLES

OWNER = "owner"
INTERNAL = "internal"
"""The password with which the services call each other."""


def _new_passwords() -> dict[str, str]:
    return {name: secrets.token_urlsafe(18) for name in (OWNER, *ROLES, INTERNAL)}


@dataclass
class StackState:
    """The number of brokers, and the ports and passwords by name."""

    brokers: int = 1
    """The number of brokers that share the data. It never changes."""
    ports: dict[str, int] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {**PREFERRED, **preferred_ports(self.brokers), **self.ports}
        self.passwords = {**_new_passwords(), **self.passwords}

    @classmethod
    def load(cls, path: Path, brokers: int | None = None) -> "StackState":
        """Reads the stored state, or creates a new one if there is no file.

        Without `brokers` the stored number counts; a new stack then has one broker. Raises
        LocalError if `brokers` differs from the stored number.
        """
        if brokers not in (None, *BROKER_COUNTS):
            allowed = " or ".join(map(str, BROKER_COUNTS))
            raise LocalError(f"BROKERS={brokers} is not possible. Use {allowed}.")
        if not path.exists():
            return cls(brokers or 1)
        stored = cls(**json.loads(path.read_text(encoding="utf-8")))
        if brokers not in (None, stored.brokers):
            raise LocalError(
                f"The stored data belongs to BROKERS={stored.brokers}; it can't be moved to "
                f"BROKERS={brokers}.\n"
                f"To keep the data: make up BROKERS={stored.brokers}. To delete it: make clean, "
                f"then make up BROKERS={brokers}."
            )
        return stored

    def save(self, path: Path) -> None:
        # Replaced at once: `make status` may read it, and this process may be killed
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        new.replace(path)
