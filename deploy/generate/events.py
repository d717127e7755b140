"""Generates docs/reference/events: the JSON Schemas of the events on the topics."""

import re
from pathlib import Path

from pydantic import TypeAdapter

from deploy.generate.text import join_descriptions, to_json
from shared.contract.published_schemas import PUBLISHED_SCHEMAS

DIRECTORY = Path("docs/reference/events")


def build_schemas() -> dict[Path, str]:
    """Builds the JSON Schemas of the published events.

    The keys are the files' paths in the checkout.
    """
    return {
        DIRECTORY / f"{_kebab(event.__name__)}.v1.json": to_json(
            join_descriptions(TypeAdapter(event).json_schema(mode="validation"))
        )
        for event in PUBLISHED_SCHEMAS
    }


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
