"""Describes in OpenAPI the bodies that `request_bodies.py` parses, because FastAPI does not."""

from collections.abc import Iterable
from typing import Any

from services.publisher.config import MAX_BULK_IDS
from services.publisher.pins.request_bodies import PinForNow, ScheduleSubmission
from shared.http.requests import describe_json_body

INVALID_OBJECT = {
    "type": "object",
    "title": "An invalid object",
    "description": "The answer lists its faults, at most 20.",
}
"""An object that a dry run accepts although it is not a valid pin or schedule."""
INVALID_ITEM = {
    "title": "An invalid item",
    "description": "Only this item fails. Its error lists its faults, at most 20.",
}


def _without_required_key(schema: dict[str, Any]) -> dict[str, Any]:
    """Builds the schema of a body whose key may be in the header Idempotency-Key instead."""
    key = {"anyOf": [schema["properties"]["idempotency_key"], {"type": "null"}]}
    return {
        **schema,
        "required": [name for name in schema["required"] if name != "idempotency_key"],
        "properties": {**schema["properties"], "idempotency_key": key},
    }


PIN = PinForNow.model_json_schema()
"""A pin of a batch."""
SINGLE_PIN = _without_required_key(PIN)
SCHEDULE = _without_required_key(ScheduleSubmission.model_json_schema())


def build_edit_schema(
    schema: dict[str, Any], names: Iterable[str], *forbidden: dict[str, Any]
) -> dict[str, Any]:
    """Builds the schema of an edit: at least one of these fields, matching none of `forbidden`."""
    properties = {name: schema["properties"][name] for name in names}
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in properties],
        **({"not": {"anyOf": list(forbidden)}} if forbidden else {}),
    }


def build_pair_schema(*names: str) -> dict[str, Any]:
    """Builds the schema of an object that has all of these fields, none of them null."""
    return {"required": list(names), "properties": {name: {"type": "string"} for name in names}}


_ID = {"type": "string", "format": "uuid"}
_IDS = {"type": "array", "items": _ID, "minItems": 1, "maxItems": MAX_BULK_IDS}
IDS = describe_json_body({"type": "object", "required": ["ids"], "properties": {"ids": _IDS}})
