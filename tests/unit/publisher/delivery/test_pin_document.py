"""The request that creates a pin has every field that Pinterest knows, and no other."""

from pathlib import Path
from typing import Any

import pytest

from services.publisher.delivery.creating.pin_document import build_pin_document
from services.publisher.delivery.media.rules import (
    build_bytes_source,
    build_image_source,
    build_video_source,
)
from services.publisher.model import PIN_TEXTS
from tests.support.pinterest_description import PinterestDescription, find_description

IMAGE = build_image_source("https://pictures.example/lamp.png")
SOURCES = [
    IMAGE,
    build_bytes_source("image/png", "aW1hZ2U="),
    build_video_source("12", "https://pictures.example/cover.png"),
    build_video_source("12", None),
]


def pin_row(**fields: Any) -> dict[str, Any]:
    """Builds a row of publisher.pins with every text set."""
    return {
        **{name: f"the {name}" for name in PIN_TEXTS},
        "board_id": "123",
        "dominant_color": "#6E7874",
        "related_terms": ["lamps"],
        "asset_id": None,
        **fields,
    }


def test_a_request_has_the_fields_of_the_pin() -> None:
    assert build_pin_document(pin_row(), IMAGE, "https://shop.example/#mark") == {
        "board_id": "123",
        "title": "the title",
        "description": "the description",
        "alt_text": "the alt_text",
        "dominant_color": "#6E7874",
        "link": "https://shop.example/#mark",
        "media_source": IMAGE,
    }


def test_empty_fields_are_left_out() -> None:
    empty = dict.fromkeys(("description", "alt_text", "dominant_color"))
    document = build_pin_document(pin_row(**empty), IMAGE, None)
    assert document == {"board_id": "123", "title": "the title", "media_source": IMAGE}


@pytest.mark.parametrize("source", SOURCES)
def test_a_request_keeps_to_pinterests_description(source: dict[str, object]) -> None:
    """Checks nothing where the description is not at hand, as test_contract.py says."""
    path: Path | None = find_description()
    if path is None:
        return
    request = {
        "method": "POST",
        "path": "/v5/pins",
        "query": {},
        "content_type": "application/json",
        "body": build_pin_document(pin_row(), source, "https://shop.example/"),
    }
    assert PinterestDescription.read(path).find_violations([request]) == []
