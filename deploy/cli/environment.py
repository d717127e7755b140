"""Which Pinflow is meant: the variables PINFLOW_*, else the `.pinflow/env` of the checkout that the command is run in."""

import os
from pathlib import Path

from deploy.local.state import read_env

ENV_FILE = Path(".pinflow") / "env"


def load_environment(start: Path) -> Path | None:
    """Set what is not set from the nearest `.pinflow/env` at or above `start`. Returns the file."""
    for folder in (start, *start.parents):
        file = folder / ENV_FILE
        if file.is_file():
            for name, value in read_env(file).items():
                os.environ.setdefault(name, value)
            return file
    return None
