"""Finds the address, keys and passwords of the installation that a command works on.

They are variables PINFLOW_* of the shell. Those that are not set come from the file `.pinflow/env`
of the checkout that the command runs in.
"""

import os
from pathlib import Path

ENV_FILE = Path(".pinflow") / "env"


def load_environment(start: Path) -> Path | None:
    """Sets the missing variables from the nearest `.pinflow/env` at or above `start`.

    Returns the file, or None if there is none.
    """
    for folder in (start, *start.parents):
        file = folder / ENV_FILE
        if file.is_file():
            for name, value in read_env(file).items():
                os.environ.setdefault(name, value)
            return file
    return None


def read_env(path: Path) -> dict[str, str]:
    """Reads the NAME=value lines of a file. Returns an empty dict if there is no file."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def write_env(path: Path, values: dict[str, str]) -> None:
    """Writes NAME=value lines. A reader at the same time sees the old or the new file."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    try:
        new.touch(mode=0o600)  # it has a key and a password
        new.write_text(
            "".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8"
        )
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
