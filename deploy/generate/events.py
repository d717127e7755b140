"""Write what is generated from the code: `make schemas`. A test compares; run this after a change
of an event or an endpoint.
"""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from deploy.generate import configuration
from deploy.generate.openapi import document
from shared.contract.events import PUBLISHED_SCHEMAS

ROOT = Path(__file__).parents[2]
OPENAPI = Path("services/status/openapi.json")
"""Where the status service, which answers it, finds it in its own package."""
CONFIGURATION = Path("docs/configuration.md")


def generated() -> dict[Path, str]:
    """Every generated file, by its path in the checkout, with its text."""
    return {OPENAPI: _text(document()), CONFIGURATION: configuration.text()} | {
        Path("docs/events") / f"{_kebab(event.__name__)}.v1.json": _text(
            TypeAdapter(event).json_schema(mode="validation")
        )
        for event in PUBLISHED_SCHEMAS
    }


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    for path, text in generated().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
