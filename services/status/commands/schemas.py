"""HTTP models of the commands on an import."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field

from shared.contract.events import MAX_ROWS, JobStatus, RowStatus
from shared.contract.pins import PinSubmission
from shared.http.fields import FailureCode, FailureMessage
from shared.http.models import ApiModel
from shared.http.requests import build_schema

_RowNumber = Annotated[int, Field(description="The number of the row in the import, from 1.")]


def build_retry_schema() -> dict[str, Any]:
    """Builds the JSON Schema of the body of a retry: every field of a row can be corrected."""
    row = build_schema(PinSubmission)
    number = {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_ROWS,
        "description": "The number of a failed row.",
    }
    correction = {
        "title": "RowCorrection",
        "description": "New values for a failed row. A field that is null is removed.",
        "type": "object",
        "properties": {
            "row_number": number,
            **{name: {**schema, "default": None} for name, schema in row["properties"].items()},
        },
        "required": ["row_number"],
        "minProperties": 2,
        "additionalProperties": False,
    }
    return {
        "title": "RetryRequest",
        "description": "Corrections of failed rows. Rows without one are sent again as they were.",
        "type": "object",
        "properties": {
            "corrections": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/RowCorrection"},
                "maxItems": MAX_ROWS,
                "description": "At most one for each failed row.",
            }
        },
        "additionalProperties": False,
        "$defs": {"RowCorrection": correction, **row.get("$defs", {})},
    }


class _PublisherModel(ApiModel):
    """Ignores fields that a newer publisher adds to its answer."""

    model_config = ConfigDict(extra="ignore")


class CanceledScheduleResponse(_PublisherModel):
    """A schedule that the command canceled."""

    row_number: _RowNumber
    schedule_id: UUID
    """The schedule."""


class WithdrawnPinResponse(_PublisherModel):
    """A pin that waited for its delivery. The command deleted it, and it is never sent."""

    row_number: _RowNumber
    pin_id: UUID
    """The pin."""


class LeftScheduleResponse(_PublisherModel):
    """A schedule, or a pin of Pinterest without one, that the command left as it is."""

    row_number: _RowNumber
    pin_id: UUID | None = None
    """The pin. Null for a schedule."""
    schedule_id: UUID | None = None
    """The schedule. Null for a pin without one."""
    reason: str
    """The reason, for example `published`, `changed` or `account_not_permitted`. `publishing` while
    it is being sent to Pinterest."""


class ImportCancellationResponse(ApiModel):
    """The import after the cancellation. Rows without a result end as failed within moments."""

    id: UUID
    """The job's id."""
    status: JobStatus
    total_rows: int
    """Rows in the import."""
    processed_rows: int
    """Rows that have a result."""
    created_rows: int
    """Rows that were published or scheduled before the cancellation."""
    existing_rows: int
    """Rows whose idempotency key already had a pin or a schedule."""
    failed_rows: int
    """Rows that failed, those with the code `canceled` among them."""
    canceled_rows: int
    """Rows that failed with the code `canceled` so far."""
    unsettled_rows: int
    """Rows that have no result yet. Each of them ends as failed with the code `canceled`, unless
    it was settled before the cancellation and its result is still on the way."""
    completed_at: datetime | None
    """When the import ended, in UTC. Null until then."""
    canceled_schedules: list[CanceledScheduleResponse]
    """The schedules that were canceled with the import, by this request or an earlier one. Empty
    without `scheduled=true`."""
    withdrawn_pins: list[WithdrawnPinResponse]
    """The pins without a schedule that waited for their delivery to Pinterest, and are never sent.
    They were deleted by this request or an earlier one, and their keys stay taken. Empty without
    `scheduled=true`."""
    left: list[LeftScheduleResponse]
    """The schedules and the pins of Pinterest that were left, and why. Empty without
    `scheduled=true`."""


class UndoneRow(_PublisherModel):
    """A pin or schedule that was deleted. Its idempotency key is free again.

    A pin that is on Pinterest is removed there first.
    """

    row_number: _RowNumber
    pin_id: UUID | None = None
    """The pin. Null for a schedule that was not published."""
    schedule_id: UUID | None = None
    """The schedule. Null for a pin that was published at once."""
    action: str
    """`deleted` for a pin, `canceled` for a schedule that waited: it is deleted too. `removing` for
    a pin that is being removed from Pinterest: it is deleted, and its key is free, when it is
    `removed`."""


class LeftRow(_PublisherModel):
    """A pin or schedule that was left as it is."""

    row_number: _RowNumber
    pin_id: UUID | None = None
    """The pin. Null for a schedule that was not published."""
    schedule_id: UUID | None = None
    """The schedule. Null for a pin that was published at once."""
    reason: str
    """The reason: `changed` if somebody, or an import with `on_existing=update`, has changed it.
    `canceled` or `deleted` if somebody has done that. `account_not_permitted` if the API key may
    not use its account. `publishing` while it is being sent to Pinterest: repeat the undo then.
    `unconfirmed` if it may be on Pinterest, and `refused` if Pinterest did not remove it: look for
    it there."""


class ImportUndoResponse(ApiModel):
    """The record of an undo. The counters and results of the import stay as they were."""

    job_id: UUID
    """The import that was undone."""
    undo_id: UUID | None
    """The id of the undo. It is the same for a repeated request. Null in a dry run before the first
    undo."""
    undone_at: datetime | None
    """When it was undone first, in UTC. Null in a dry run before the first undo."""
    dry_run: bool
    """True if nothing was changed, because the request had `dry_run=true`."""
    undone_rows: int
    """Rows whose pin or schedule was deleted or canceled, or would be in a dry run."""
    left_rows: int
    """Rows whose pin or schedule was left."""
    undone: list[UndoneRow]
    """The rows whose pins or schedules were deleted or canceled, in row order."""
    left: list[LeftRow]
    """The rows whose pins or schedules were left, in row order."""


class TimelineEvent(ApiModel):
    """Something that happened to a row."""

    event: str
    """`accepted`, `stored` or `scheduled`, `sent` (an attempt to create the pin on Pinterest),
    `published`, `failed`, `changed` (by a person or an update), `removed from Pinterest`,
    `deleted`, `recorded`, `import canceled` or `settled`."""
    at: datetime | None
    """When, in UTC. Null if an earlier version did not store the time."""
    detail: str | None
    """More about it, in words."""


class RowTimelineResponse(ApiModel):
    """The timeline of one row of an import. `waiting` says why it has no result yet."""

    job_id: UUID
    """The import."""
    row_number: _RowNumber
    line: int | None
    """The line of the CSV file in which the row begins. Null for JSON, and until it has a result.
    """
    status: RowStatus | None
    """The row's result. Null until it has one."""
    idempotency_key: str | None
    """The row's idempotency key. Null until it has a result, and if the key is missing or invalid.
    """
    pin_id: UUID | None
    """The pin of the row's result, if it has one."""
    schedule_id: UUID | None
    """The schedule of the row's result, if it has one."""
    error_code: FailureCode
    error_message: FailureMessage
    state: str | None
    """The state of the pin now, a value of `existing_state`. Null if the row has no pin."""
    run_at: datetime | None
    """When the pin is to be published, in UTC. Null if it was published at once."""
    events: list[TimelineEvent]
    """The events, the earliest first."""
    waiting: str | None
    """The reason why the row has no result yet, as far as it is known. Null if it has one."""
