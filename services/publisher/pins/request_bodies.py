"""Parses the bodies of requests. Invalid bodies raise ApiError (422)."""

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Annotated, Any
from uuid import UUID, uuid4

from pydantic import BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import MAX_ROW_FAULTS, Fault
from shared.contract.field_names import find_alias, suggest_field
from shared.contract.pin_fields import Identifier, KeyText
from shared.contract.pins import PinSubmission, make_printable
from shared.contract.run_at import RunAt
from shared.http.models import ApiModel
from shared.http.requests import parse_model, require_object, validation_error

CONTENT_FIELDS = tuple(PinSubmission.model_fields)
"""The fields of a pin, for requests, answers and inserts."""
EDITABLE_PIN_FIELDS = ("title", "description", "link_url", "alt_text", "board_id")
"""The fields of a pin that PATCH may change."""
EDITABLE_SCHEDULE_FIELDS = (
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
ANSWER_FIELDS = frozenset(
    {
        "id",
        "workspace_id",
        "pinterest_account_id",
        "status",
        "media_type",
        "media_url",
        "delivery",
        "pinterest_pin_id",
        "deferred_until",
        "error_code",
        "error_message",
        "created_at",
        "updated_at",
        "published_at",
        "failed_at",
        "removed_from_pinterest_at",
        "payload",
        "last_error",
        "pin_id",
        "payload_matches",
        "differing_fields",
    }
)
"""The fields of answers that no request has: a client may send a whole answer back."""
_EXCLUSIVE = (("image_url", "asset_id"), ("cover_image_url", "cover_image_asset_id"))


def _reject_run_at(value: object) -> object:
    # Not ignored: the pin would be published at once, which can't be undone
    if value is not None:
        raise PydanticCustomError(
            "not_at_once",
            "must be left out: send a pin for a later time to POST /v1/schedules or in an import",
        )
    return value


class PinForNow(PinSubmission):
    """A pin that is published at once.

    Unknown fields are ignored. Lengths are in characters. Keys, ids and terms lose surrounding
    white space, and blank terms are dropped. A color becomes `#` and upper-case digits.
    """

    run_at: Annotated[None, BeforeValidator(_reject_run_at)] = None
    """Must be left out or null. Send a pin for a later time to `POST /v1/schedules`."""


class ScheduleSubmission(PinSubmission):
    """A pin for a later time.

    Unknown fields are ignored. Lengths are in characters. Keys, ids and terms lose surrounding
    white space, and blank terms are dropped. A color becomes `#` and upper-case digits.
    """

    run_at: RunAt
    """When to publish the pin: ISO 8601 with an offset, in the future."""


class PinRetry(ApiModel):
    """The new board or account of a failed pin. A field that is null or missing stays unchanged."""

    model_config = ConfigDict(extra="ignore")

    board_id: KeyText | None = None
    """The new board."""
    account_id: Identifier | None = None
    """The new account. The board must belong to it."""


def parse_pin(document: object, header: str | None = None) -> PinForNow:
    """Parses a pin. `header` is the request's Idempotency-Key. A pin needs a key."""
    key = read_requested_key(document, header)
    named = {} if key is None else {"idempotency_key": key}
    return parse_model(PinForNow, {**require_object(document), **named})


def parse_schedule(document: object, key: Any) -> ScheduleSubmission:
    """Parses a schedule. `key` is from `read_requested_key` or `generate_key`."""
    return parse_model(ScheduleSubmission, {**require_object(document), "idempotency_key": key})


def read_requested_key(document: object, header: str | None) -> Any:
    """Returns the key of the header `Idempotency-Key` or of the body, before validation.

    Returns None if neither has a key. A schedule then gets a generated key; a pin is refused.
    """
    key = require_object(document).get("idempotency_key")
    if header is None or key is None:
        return key if header is None else header
    if header != (key.strip() if isinstance(key, str) else key):
        raise ApiError(
            ErrorCode.INVALID_PARAMETER,
            "Idempotency-Key: differs from idempotency_key in the body. Send only one of them.",
        )
    return header


def generate_key() -> str:
    """Generates the key of a schedule whose request has none."""
    return f"schedule-{uuid4()}"


def parse_retry(document: object) -> dict[str, Any]:
    """Parses the new account and board of a retry. Returns an empty dict if there are none."""
    return {} if document is None else parse_model(PinRetry, document).model_dump(exclude_none=True)


def parse_pins(document: object, limit: int) -> list[Any]:
    """Parses the list of a bulk publish, but not its items."""
    return _parse_list(document, "pins", limit, ErrorCode.TOO_MANY_PINS)


def parse_ids(document: object, limit: int) -> list[UUID]:
    items = _parse_list(document, "ids", limit, ErrorCode.TOO_MANY_IDS)
    ids = [_parse_uuid(item) for item in items]
    faults = [
        Fault(
            code="uuid_parsing",
            field=f"ids.{index}",
            message="Must be a UUID",
            value=make_printable(items[index]),
        )
        for index, parsed in enumerate(ids)
        if parsed is None
    ]
    if faults:
        raise validation_error(faults[:MAX_ROW_FAULTS])
    return [parsed for parsed in ids if parsed is not None]


def parse_changes(document: object, names: Collection[str]) -> dict[str, Any]:
    """Returns the fields to change, not validated yet. An explicit null is a change too.

    `names` are the fields that the request may change. Raises ApiError (422) with a fault for each
    other field: a client would take a field that was ignored for changed.
    """
    changes = require_object(document)
    others = islice((name for name in changes if name not in names), MAX_ROW_FAULTS)
    if faults := [_build_edit_fault(name, names) for name in others]:
        # The first fault gives the error its code, as in the other bodies
        faults.sort(key=lambda fault: fault.code != ErrorCode.UNKNOWN_FIELD)
        raise validation_error(faults)
    if not changes:
        raise ApiError(
            ErrorCode.INVALID_PAYLOAD,
            f"The request changes nothing. Send at least one of: {', '.join(names)}.",
        )
    return changes


def _build_edit_fault(name: str, editable: Collection[str]) -> Fault:
    field = make_printable(name)
    if name in CONTENT_FIELDS or name in ANSWER_FIELDS:
        message = f"Can't be changed. Send only: {', '.join(editable)}."
        return Fault(code="not_editable", field=field, message=message)
    alias = find_alias(name)
    suggestion = alias if alias in editable else suggest_field(name, editable)
    advice = (
        f"Did you mean {suggestion}? Correct its name"
        if suggestion
        else f"Send only: {', '.join(editable)}"
    )
    return Fault(
        code=ErrorCode.UNKNOWN_FIELD, field=field, message=f"There is no such field. {advice}."
    )


def build_changed_values(
    model: type[PinSubmission], row: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Builds the row's new values.

    Validates the complete changed row by the rules of a new pin or schedule.
    """
    # Setting one source of an image clears the other: both at once are never valid
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
            ErrorCode.INVALID_PAYLOAD,
            f'The body has no list "{name}". Send a JSON object: {{"{name}": […]}}.',
        )
    if not items:
        raise ApiError(ErrorCode.EMPTY_BATCH, f'"{name}" is empty. Send 1 to {limit} {name}.')
    if len(items) > limit:
        raise ApiError(
            too_many,
            f"{len(items)} {name} are too many. Send at most {limit} in one request.",
            limit=limit,
            count=len(items),
        )
    return items


def _parse_uuid(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
