"""What clients send to the publisher, read. Everything here raises RequestRefused (422)."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar
from uuid import UUID

from msgspec.structs import asdict
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from shared.contract.errors import ErrorCode, RequestRefused
from shared.contract.events import MAX_ROW_FAULTS, Fault, PinContent
from shared.contract.pins import (
    Identifier,
    Instant,
    Key,
    PinSubmission,
    faults_of,
    first_fault,
    printable,
)

M = TypeVar("M", bound=BaseModel)

PIN_FIELDS = ("title", "description", "link_url", "alt_text", "board_id")
"""What may be changed of a pin; of a schedule:"""
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
_EXCLUSIVE = (("image_url", "asset_id"), ("cover_image_url", "cover_image_asset_id"))


def _refuse_time(value: object) -> object:
    # Ignored, it would publish at once what was meant for later; and what is published stays so
    if value is not None:
        raise PydanticCustomError(
            "not_at_once",
            "a pin for later is a schedule: send it to /v1/schedules, or in an import",
        )
    return value


class PinForNow(PinSubmission):
    """A pin that is published at once."""

    run_at: Annotated[None, BeforeValidator(_refuse_time)] = None


class ScheduleSubmission(PinSubmission):
    """A pin for a later time."""

    run_at: Instant


class PinRetry(BaseModel):
    """Where to publish a failed pin instead; what is null or left out stays as it is."""

    model_config = ConfigDict(extra="ignore")

    board_id: Key | None = None
    account_id: Identifier | None = None


def object_of(document: object) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise RequestRefused(ErrorCode.INVALID_PAYLOAD, "Send one JSON object.")
    return document


def checked(model: type[M], document: object) -> M:
    """What the model makes of an object, or every fault that it finds."""
    try:
        return model.model_validate(object_of(document))
    except ValidationError as error:
        raise _refused(faults_of(error)) from None


def pin_of(document: object) -> PinContent:
    return content_of(PinForNow, object_of(document))


def schedule_of(document: object, key: str) -> PinContent:
    return content_of(ScheduleSubmission, {**object_of(document), "idempotency_key": key})


def content_of(model: type[PinSubmission], fields: Mapping[str, Any]) -> PinContent:
    try:
        return model.model_validate(fields).to_content()
    except ValidationError as error:
        raise _refused(faults_of(error)) from None


def retry_of(document: object) -> dict[str, Any]:
    """The account and board to take instead, if any."""
    return {} if document is None else checked(PinRetry, document).model_dump(exclude_none=True)


def pins_of(document: object, most: int) -> list[Any]:
    return _listed(document, "pins", most, ErrorCode.TOO_MANY_PINS)


def ids_of(document: object, most: int) -> list[UUID]:
    listed = _listed(document, "ids", most, ErrorCode.TOO_MANY_IDS)
    ids = [_uuid_or_none(one) for one in listed]
    faults = [
        Fault(
            code="uuid_parsing",
            field=f"ids.{position}",
            message="Must be a UUID",
            value=printable(listed[position]),
        )
        for position, one in enumerate(ids)
        if one is None
    ]
    if faults:
        raise _refused(faults[:MAX_ROW_FAULTS])
    return [one for one in ids if one is not None]


def given_of(document: object, names: Collection[str]) -> dict[str, Any]:
    """The fields that are to change, as they were sent; an explicit null is one of them."""
    given = {name: value for name, value in object_of(document).items() if name in names}
    if not given:
        raise RequestRefused(
            ErrorCode.INVALID_PAYLOAD,
            f"Nothing to change: give at least one of {', '.join(names)}.",
        )
    return given


def edited(
    model: type[PinSubmission], row: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What changes in the row.

    What comes out is checked as a whole: it must be what could have been sent at first.
    """
    # One source of an image takes the other's place: both at once are never valid
    replaced = {
        other: None
        for pair in _EXCLUSIVE
        for one, other in (pair, pair[::-1])
        if given.get(one) is not None and other not in given
    }
    stands = {name: row[name] for name in PinContent.__struct_fields__}
    if row["run_at"] is not None:
        stands["run_at"] = row["run_at"].isoformat()
    content = content_of(model, {**stands, **given, **replaced})
    return {name: getattr(content, name) for name in (*given, *replaced)}


def _listed(document: object, name: str, most: int, too_many: ErrorCode) -> list[Any]:
    items = document.get(name) if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise RequestRefused(
            ErrorCode.INVALID_PAYLOAD, f'Send one JSON object with a list: {{"{name}": […]}}.'
        )
    if not items:
        raise RequestRefused(ErrorCode.EMPTY_BATCH, f'"{name}" is empty.')
    if len(items) > most:
        raise RequestRefused(
            too_many, f"{len(items)} {name}: send {most} at most.", limit=most, count=len(items)
        )
    return items


def _uuid_or_none(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _refused(faults: list[Fault]) -> RequestRefused:
    code, message = first_fault(faults)
    return RequestRefused(code, message, errors=[asdict(fault) for fault in faults])
