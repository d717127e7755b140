"""Parses what clients send. Every function here raises ApiError (422)."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import MAX_ROW_FAULTS, Fault
from shared.contract.pins import (
    Identifier,
    Instant,
    KeyText,
    PinSubmission,
    make_printable,
)
from shared.http.requests import parse_model, require_object, validation_error

CONTENT_FIELDS = tuple(PinSubmission.model_fields)
"""A pin's fields. Requests, answers and inserts take them from here."""
PIN_FIELDS = ("title", "description", "link_url", "alt_text", "board_id")
"""The fields of a pin that PATCH may change."""
SCHEDULE_FIELDS = (
    "run_at",
    "board_id",
    "title",
    "description",
    "link_url",
    "image_url",
    "asset_id",
    "cover_image_url",
    "cover_image_asset_id",
)
"""The fields of a schedule that PATCH may change."""
_EXCLUSIVE = (("image_url", "asset_id"), ("cover_image_url", "cover_image_asset_id"))


def _reject_run_at(value: object) -> object:
    # Ignored, it would publish at once what was meant for later; and what is published stays so
    if value is not None:
        raise PydanticCustomError(
            "not_at_once",
            "a pin for later is a schedule: send it to /v1/schedules, or in an import",
        )
    return value


class PinForNow(PinSubmission):
    """A pin that is published at once."""

    run_at: Annotated[None, BeforeValidator(_reject_run_at)] = None


class ScheduleSubmission(PinSubmission):
    """A pin for a later time."""

    run_at: Instant


class PinRetry(BaseModel):
    """Where to publish a failed pin instead; what is null or left out stays as it is."""

    model_config = ConfigDict(extra="ignore")

    board_id: KeyText | None = None
    account_id: Identifier | None = None


def parse_pin(document: object) -> PinForNow:
    return parse_model(PinForNow, document)


def parse_schedule(document: object, key: Any) -> ScheduleSubmission:
    """Parses a schedule under the key that `read_requested_key` or `generate_key` gave."""
    return parse_model(ScheduleSubmission, {**require_object(document), "idempotency_key": key})


def read_requested_key(document: object, header: str | None) -> Any:
    """Returns the key of the header `Idempotency-Key`, or of the body, not validated.

    Returns None if neither has one: the server generates it.
    """
    key = require_object(document).get("idempotency_key")
    if header is None or key is None:
        return key if header is None else header
    if header != (key.strip() if isinstance(key, str) else key):
        raise ApiError(
            ErrorCode.INVALID_PARAMETER,
            "Idempotency-Key: is not the idempotency_key of the body. Send one of them.",
        )
    return header


def generate_key() -> str:
    """Makes a key for a schedule that came without one."""
    return f"schedule-{uuid4()}"


def parse_retry(document: object) -> dict[str, Any]:
    """Returns the account and board to publish to instead. Empty if the request names none."""
    return {} if document is None else parse_model(PinRetry, document).model_dump(exclude_none=True)


def parse_pins(document: object, limit: int) -> list[Any]:
    """Returns the items of a batch, each not parsed yet."""
    return _parse_list(document, "pins", limit, ErrorCode.TOO_MANY_PINS)


def parse_ids(document: object, limit: int) -> list[UUID]:
    items = _parse_list(document, "ids", limit, ErrorCode.TOO_MANY_IDS)
    ids = [_parse_uuid(item) for item in items]
    faults = [
        Fault(
            code="uuid_parsing",
            field=f"ids.{position}",
            message="Must be a UUID",
            value=make_printable(items[position]),
        )
        for position, parsed in enumerate(ids)
        if parsed is None
    ]
    if faults:
        raise validation_error(faults[:MAX_ROW_FAULTS])
    return [parsed for parsed in ids if parsed is not None]


def parse_changes(document: object, names: Collection[str]) -> dict[str, Any]:
    """Returns the fields to change, as they were sent. An explicit null is a change too."""
    changes = {name: value for name, value in require_object(document).items() if name in names}
    if not changes:
        raise ApiError(
            ErrorCode.INVALID_PAYLOAD,
            f"Nothing to change: give at least one of {', '.join(names)}.",
        )
    return changes


def build_changed_values(
    model: type[PinSubmission], row: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the row's new values.

    Validates the changed row as a whole: it must be what could have been sent at first.
    """
    # One source of an image takes the other's place: both at once are never valid
    replaced = {
        other: None
        for pair in _EXCLUSIVE
        for source, other in (pair, pair[::-1])
        if changes.get(source) is not None and other not in changes
    }
    current = {name: row[name] for name in CONTENT_FIELDS}
    if row["run_at"] is not None:
        current["run_at"] = row["run_at"].isoformat()
    pin = parse_model(model, {**current, **changes, **replaced})
    return {name: getattr(pin, name) for name in (*changes, *replaced)}


def _parse_list(document: object, name: str, limit: int, too_many: ErrorCode) -> list[Any]:
    items = document.get(name) if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise ApiError(
            ErrorCode.INVALID_PAYLOAD, f'Send one JSON object with a list: {{"{name}": […]}}.'
        )
    if not items:
        raise ApiError(ErrorCode.EMPTY_BATCH, f'"{name}" is empty.')
    if len(items) > limit:
        raise ApiError(
            too_many, f"{len(items)} {name}: send {limit} at most.", limit=limit, count=len(items)
        )
    return items


def _parse_uuid(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
