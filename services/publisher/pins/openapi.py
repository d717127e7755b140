"""Describes in OpenAPI the bodies that `request_bodies.py` parses, because FastAPI does not.

Also describes a parameter that pins and schedules share.
"""

from collections.abc import Iterable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import Field

from services.publisher.config import MAX_BATCH_PINS, MAX_BULK_IDS, PublisherSettings
from services.publisher.pins.request_bodies import (
    EDITABLE_PIN_FIELDS,
    EDITABLE_SCHEDULE_FIELDS,
    PinForNow,
    PinRetry,
    ScheduleSubmission,
)
from shared.contract.pins import PinSubmission
from shared.http.models import ApiModel
from shared.http.requests import build_schema, describe_json_body


class PinBatch(ApiModel):
    """Pins to publish now.

    Each pin is judged on its own. A pin that breaks a rule fails with a list of its faults, at most
    20. The other pins are not affected, and the answer is still 200.
    """

    pins: Annotated[list[PinForNow], Field(min_length=1, max_length=MAX_BATCH_PINS)]
    """The pins, 1 to 100."""


class IdList(ApiModel):
    """The pins or schedules to change."""

    ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_BULK_IDS)]
    """Their ids, 1 to 100. A repeated id is skipped."""


def _build_edit(
    title: str,
    description: str,
    schema: dict[str, Any],
    names: Iterable[str],
    *pairs: tuple[str, str],
) -> dict[str, Any]:
    """Builds the schema of an edit: at least one of these fields, and at most one of each pair."""
    return {
        "title": title,
        "description": description,
        "type": "object",
        "properties": {name: schema["properties"][name] for name in names},
        "additionalProperties": False,
        "minProperties": 1,
        **({"not": {"anyOf": [_have_values(pair) for pair in pairs]}} if pairs else {}),
    }


def _have_values(names: tuple[str, str]) -> dict[str, Any]:
    return {
        "required": list(names),
        "properties": {name: {"not": {"type": "null"}} for name in names},
    }


def _build_single(model: type[PinSubmission], title: str, *, without_key: str) -> dict[str, Any]:
    """Builds the schema of a body whose key may be in the header Idempotency-Key instead."""
    schema = build_schema(model)
    schema["title"] = title
    schema["required"].remove("idempotency_key")
    schema["properties"]["idempotency_key"]["description"] += (
        f" Or send it in the header `Idempotency-Key`. Without both, {without_key}."
    )
    return schema


_LIMIT, _BATCH_LIMIT = (
    PublisherSettings.model_fields[name].default for name in ("pin_body_limit", "batch_body_limit")
)
_PIN = _build_single(PinForNow, "SinglePin", without_key="the answer is 422")
_SCHEDULE = _build_single(
    ScheduleSubmission, "ScheduleSubmission", without_key="the server generates one"
)
_KEY = _SCHEDULE["properties"]["idempotency_key"]
_SCHEDULE["properties"]["idempotency_key"] = {
    "anyOf": [_KEY, {"type": "null"}],
    "description": _KEY.pop("description"),
}

PIN = describe_json_body(_PIN, _LIMIT)
PINS = describe_json_body(PinBatch, _BATCH_LIMIT)
PIN_EDIT = describe_json_body(
    _build_edit(
        "PinEdit",
        "The fields to change, at least one. A field that is left out stays unchanged. null clears "
        "a field, except title and board_id.",
        _PIN,
        EDITABLE_PIN_FIELDS,
    ),
    _LIMIT,
)
PIN_RETRY = describe_json_body({"anyOf": [build_schema(PinRetry), {"type": "null"}]}, _LIMIT)
PIN_RETRY["requestBody"]["required"] = False
SCHEDULE = describe_json_body(_SCHEDULE, _LIMIT)
SCHEDULE_EDIT = describe_json_body(
    _build_edit(
        "ScheduleEdit",
        "The fields to change, at least one. A field that is left out stays unchanged. null clears "
        "a field, except run_at, title and board_id.",
        _SCHEDULE,
        EDITABLE_SCHEDULE_FIELDS,
        ("image_url", "asset_id"),
        ("cover_image_url", "cover_image_asset_id"),
    ),
    _LIMIT,
)
IDS = describe_json_body(IdList, _LIMIT)
MAY_DOUBLE = Query(
    description="True: also retry a pin that failed with `publish_unconfirmed`. If Pinterest has "
    "it already, there are two then."
)
