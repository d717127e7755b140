"""What the stack remembers from one start to the next: its ports and passwords."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.local.ports import PREFERRED
from deploy.migrations.runner import ROLES

OWNER = "owner"


def _new_passwords() -> dict[str, str]:
    return {name: secrets.token_urlsafe(18) for name in (OWNER, *ROLES)}


@dataclass
class State:
    ports: dict[str, int] = field(default_factory=lambda: dict(PREFERRED))
    passwords: dict[str, str] = field(default_factory=_new_passwords)

    @classmethod
    def load(cls, path: Path) -> "State":
        if not path.exists():
            return cls()
        known = json.loads(path.read_text(encoding="utf-8"))
        return cls({**PREFERRED, **known["ports"]}, {**_new_passwords(), **known["passwords"]})

    def save(self, path: Path) -> None:
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
