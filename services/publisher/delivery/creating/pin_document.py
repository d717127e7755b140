"""Builds the request that creates a pin at Pinterest (POST /pins). No I/O."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from shared.postgres.row import Row

TEXT_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "title": "title",
        "description": "description",
        "alt_text": "alt_text",
        "dominant_color": "dominant_color",
    }
)
"""Maps columns of a pin to the fields of the request. All are optional at Pinterest."""


def build_pin_document(
    pin: Row, media_source: Mapping[str, Any], link: str | None
) -> dict[str, Any]:
    """Builds the document of POST /pins from a row of publisher.pins.

    `link` is the pin's link as it is sent: with the attempt's mark, if that is switched on. Leaves
    out empty fields. Pinterest has no field for related terms.
    """
    texts = {field: pin[column] for column, field in TEXT_FIELDS.items() if pin[column]}
    document = {"board_id": pin["board_id"], **texts, "media_source": dict(media_source)}
    if link:
        document["link"] = link
    return document
