"""Keeps the pydantic models that were the contract until events became msgspec structs.

Never change them, and only add the fields that events gain: tests show that the structs accept and
refuse the same values.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from shared.contract.events import (
    ExistingState,
    JobStatus,
    OnExisting,
    RowStatus,
    SourceType,
    UploadFormat,
)

MAX_KEY_LENGTH, MAX_ROWS = 255, 500
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Event(Frozen):
    version: Literal[1] = 1


class ImportsRecord(Frozen):
    kind: str
    version: Literal[1] = 1


StorableTime = Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST)]


class Fault(Frozen):
    code: str
    field: str | None = None
    message: str
    value: str | None = None


class Notice(Frozen):
    code: str
    message: str
    row_numbers: list[int] = []


class PinContent(Frozen):
    account_id: UUID
    board_id: Annotated[str, Field(max_length=MAX_KEY_LENGTH)]
    title: str
    idempotency_key: Annotated[str, Field(max_length=MAX_KEY_LENGTH)]
    description: str | None = None
    alt_text: str | None = None
    link_url: str | None = None
    image_url: str | None = None
    asset_id: UUID | None = None
    cover_image_url: str | None = None
    cover_image_asset_id: UUID | None = None
    related_terms: list[str] | None = None
    dominant_color: str | None = None
    run_at: AwareDatetime | None = None


class RowAccepted(ImportsRecord):
    kind: Literal["r"]
    job_id: UUID
    workspace_id: UUID
    row_number: Annotated[int, Field(ge=1, le=MAX_ROWS)]
    accepted_at: AwareDatetime
    fingerprint: UUID
    line: int | None = None
    on_existing: OnExisting = OnExisting.REPORT
    row: PinContent


class FieldDifference(Frozen):
    field: str
    stored: str | None
    sent: str | None


class RowResult(Frozen):
    row_number: Annotated[int, Field(ge=1, le=MAX_ROWS)]
    status: RowStatus
    pin_id: UUID | None = None
    schedule_id: UUID | None = None
    idempotency_key: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    errors: list[Fault] | None = None
    payload_matches: bool | None = None
    line: int | None = None
    existing_state: ExistingState | None = None
    differing_fields: list[FieldDifference] | None = None
    updated: bool | None = None


class RowsSettled(ImportsRecord):
    kind: Literal["s"] = "s"
    job_id: UUID
    workspace_id: UUID
    results: list[RowResult]


class ImportAccepted(ImportsRecord):
    kind: Literal["i"] = "i"
    type: Literal["import_accepted"] = "import_accepted"
    batch_records: int | None = None
    job_id: UUID
    workspace_id: UUID
    source_type: SourceType
    source_filename: str | None = None
    total_rows: Annotated[int, Field(ge=1, le=MAX_ROWS)]
    accepted_at: StorableTime
    request_id: str | None = None
    warnings: list[Notice] = []
    publishing_now: int | None = None
    scheduled_for_later: int | None = None
    parent_id: UUID | None = None


class ImportRejected(ImportsRecord):
    kind: Literal["i"] = "i"
    type: Literal["import_rejected"] = "import_rejected"
    job_id: UUID
    workspace_id: UUID
    source_type: SourceType = SourceType.JSON
    source_filename: str | None = None
    accepted_at: StorableTime
    request_id: str | None = None
    error_code: str
    error_message: str


class UploadParameters(Frozen):
    strict: bool = False
    timezone: str | None = None
    past_run_at: str | None = None
    account: str | None = None
    encoding: str | None = None
    on_existing: OnExisting = OnExisting.REPORT


class FileUploaded(ImportsRecord):
    kind: Literal["u"] = "u"
    job_id: UUID
    workspace_id: UUID
    format: UploadFormat
    encoding: Literal["zstd"] = "zstd"
    size: Annotated[int, Field(ge=0)]
    parameters: UploadParameters | None = None


ImportEvent = Annotated[ImportAccepted | ImportRejected, Field(discriminator="type")]


class ImportRequested(Frozen):
    request_id: Annotated[str, Field(min_length=1, max_length=255)]
    workspace_id: UUID
    source: Any = None
    rows: Any = None
    timezone: Any = None
    past_run_at: Any = None
    account: Any = None
    strict: Any = None
    on_existing: Any = None


class ImportCompleted(Event):
    request_id: str | None = None
    job_id: UUID
    workspace_id: UUID
    status: JobStatus
    total_rows: int
    processed_rows: int
    created_rows: int
    existing_rows: int
    failed_rows: int
    error_message: str | None = None
    completed_at: AwareDatetime


class PinEvent(Event):
    pin_id: UUID
    workspace_id: UUID
    account_id: UUID
    board_id: str
    idempotency_key: str
    job_id: UUID | None = None
    row_number: int | None = None


class PinPublished(PinEvent):
    published_at: AwareDatetime
    pinterest_pin_id: str | None = None


class PinQueued(PinEvent):
    queued_at: AwareDatetime


class PinDeferred(PinEvent):
    error_code: str
    deferred_until: AwareDatetime
    deferred_at: AwareDatetime


class PinScheduled(PinEvent):
    schedule_id: UUID
    run_at: AwareDatetime


class PinFailed(PinEvent):
    schedule_id: UUID | None = None
    error_code: str
    error_message: str
    failed_at: AwareDatetime


class DeliveryAttempted(Frozen):
    kind: Literal["attempted"] = "attempted"
    attempt_id: UUID
    pin_id: UUID
    number: int
    workspace_id: UUID
    account_id: UUID
    mode: str
    fence: int
    board_id: str
    texts: dict[str, str | None]
    started_at: AwareDatetime
    deadline_at: AwareDatetime


class DeliverySettled(Frozen):
    kind: Literal["settled"] = "settled"
    attempt_id: UUID
    pin_id: UUID
    account_id: UUID
    outcome: str
    pinterest_pin_id: str | None = None
    settled_at: AwareDatetime


IMPORT_EVENT: TypeAdapter[ImportAccepted | ImportRejected] = TypeAdapter(ImportEvent)
