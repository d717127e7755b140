"""Defines the events on the topics: the contract between the services.

Events are immutable, versioned and named in the past tense. Changes only add fields.

Records are JSON. Their JSON Schemas are committed in docs/reference/events, and a test compares
them. The events that other systems read (`job-events`, `pin-events`) or write (`import-requests`)
are CloudEvents 1.0 in binary mode: the models below are their data.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, field
from pydantic import Field, TypeAdapter

from shared.contract.event_times import AwareTime, StorableTime, require_storable_time
from shared.contract.wire import Decoder, WireStruct, decoder

MAX_ROWS = 500
"""Rows in one import."""
MAX_ROW_FAULTS = 20
"""Faults that are reported for one row."""
MAX_KEY_LENGTH = 255
"""Characters of an idempotency key or a board id."""
MAX_REJECTED_VALUE_LENGTH = 200
"""Characters of a rejected value that an answer repeats."""
MAX_DIFFERENCE_LENGTH = 100
"""Characters of each value of a FieldDifference."""


class RecordKind(StrEnum):
    """Kinds of records on the topic `imports`. Each kind has one reader.

    See shared/contract/import_records.py.
    """

    IMPORT = "i"
    """ImportAccepted or ImportRejected: status reads it."""
    RESULTS = "s"
    """RowsSettled of the rows that failed validation: status reads it."""
    UPLOAD = "u"
    """FileUploaded: status reads it."""
    ROW = "r"
    """RowAccepted: the publisher reads it."""


class Event(WireStruct, frozen=True, kw_only=True):
    version: Literal[1] = 1


class ImportsRecord(WireStruct, frozen=True, kw_only=True):
    """The fields that all records of the topic `imports` share.

    `kind` must come first in the JSON (shared/contract/import_records.py). No record has a
    msgspec tag, which would be written before `kind`.
    """

    kind: str
    version: Literal[1] = 1


class SourceType(StrEnum):
    """The format of an import. Imports by Kafka topic are `json`."""

    JSON = "json"
    CSV = "csv"


class RowStatus(StrEnum):
    """The result of a row.

    - `created`: it was published or scheduled.
    - `existing`: its idempotency key already had a pin. Nothing was published for it.
    - `failed`: nothing was published for it, and its idempotency key stays free.
    """

    CREATED = "created"
    EXISTING = "existing"
    FAILED = "failed"


class JobStatus(StrEnum):
    """The state of an import.

    - `queued`: accepted, and no row has a result.
    - `processing`: some rows have results.
    - `completed`: all rows have results, and none failed.
    - `completed_with_errors`: all rows have results, and some failed.
    - `failed`: all rows failed, or the whole import was refused.
    """

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"


class OnExisting(StrEnum):
    """The treatment of a row whose idempotency key already has a pin.

    - `report`: changes nothing. The result has the pin's state and how the row differs from it.
    - `update`: gives the pin the row's content and time, if it is scheduled, queued or failed.
    - `revive`: publishes the row as a new pin, if the old one was deleted or canceled.

    No value changes a pin of another account than the row's, or takes that pin's key.
    """

    REPORT = "report"
    UPDATE = "update"
    REVIVE = "revive"


class Fault(WireStruct, frozen=True, kw_only=True, omit_defaults=True):
    """One error in a row."""

    code: str
    """The kind of the error, for example `missing`."""
    field: str | None = None
    """The field. Null if the error concerns several fields or the whole row."""
    message: str
    """The rule that the value breaks."""
    value: str | None = None
    """The value that was sent, cut at 200 characters. Null if there is none."""


class Notice(WireStruct, frozen=True, kw_only=True):
    """A warning about an import that was accepted nevertheless."""

    code: str
    """The kind of the warning, for example `unknown_columns`."""
    message: str
    """A sentence that says what was ignored, repaired or guessed."""
    row_numbers: list[int] = field(default_factory=list)
    """The rows that it concerns, at most 500. Empty if it concerns the whole import."""


class PinContent(WireStruct, frozen=True, kw_only=True, omit_defaults=True):
    """The validated content of a pin.

    Texts and URLs are as sent. Keys, ids and terms have no surrounding white space. Times are in
    UTC.

    Fields that outcomes and pin events repeat have bounds here too, because another producer may
    write to `imports`. Without bounds, those records might not fit into their topics.
    """

    account_id: UUID
    board_id: Annotated[str, Meta(max_length=MAX_KEY_LENGTH)]
    title: str
    idempotency_key: Annotated[str, Meta(max_length=MAX_KEY_LENGTH)]
    description: str | None = None
    alt_text: str | None = None
    link_url: str | None = None
    image_url: str | None = None
    asset_id: UUID | None = None
    cover_image_url: str | None = None
    cover_image_asset_id: UUID | None = None
    related_terms: list[str] | None = None
    dominant_color: str | None = None
    run_at: AwareTime | None = None


class RowAccepted(ImportsRecord, frozen=True, kw_only=True):
    """One row of an accepted import, for the publisher. Topic `imports`.

    `accepted_at` is the import's time. The publisher compares `run_at` with it and not with the
    clock, so a retry makes the same decision. `fingerprint` has 32 hexadecimal digits
    (shared.contract.pins.compute_fingerprint). `line` is the line of a CSV file in which the row
    begins, and is repeated in the row's result.
    """

    kind: Literal["r"]
    job_id: UUID
    workspace_id: UUID
    row_number: Annotated[int, Meta(ge=1, le=MAX_ROWS)]
    accepted_at: AwareTime
    fingerprint: UUID
    line: int | None = None
    on_existing: OnExisting = OnExisting.REPORT
    row: PinContent


class ExistingState(StrEnum):
    """The state of the pin that already has a row's idempotency key."""

    PUBLISHED = "published"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    PUBLISHING = "publishing"
    FAILED = "failed"
    CANCELED = "canceled"
    DELETED = "deleted"


NOT_PUBLISHED = frozenset({ExistingState.FAILED, ExistingState.CANCELED, ExistingState.DELETED})
"""States of an existing pin in which nothing will be published for its row."""
EXISTING_NOT_PUBLISHED = "existing_not_published"
"""The code of the warning about rows whose pin is in such a state."""


class FieldDifference(WireStruct, frozen=True, kw_only=True):
    """A field whose sent value differs from the stored one."""

    field: str
    """The name of the field."""
    stored: str | None
    """The stored value, cut at 100 characters. Null if there is none."""
    sent: str | None
    """The value that was sent, cut at 100 characters. Null if there is none."""


class RowResult(WireStruct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one row.

    A created row has either a pin_id or a schedule_id. An existing row has the ids that the store
    has for its idempotency key. `existing_state` says what that pin is, and `differing_fields` how
    the row differs from it if `payload_matches` is false. `updated` is true if the pin took the
    row's content. `line` is the row's line in a CSV file.
    """

    row_number: Annotated[int, Meta(ge=1, le=MAX_ROWS)]
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


class RowsSettled(ImportsRecord, frozen=True, kw_only=True):
    """Results of one or more rows of a job. Topic `outcomes`.

    The results of rows that failed validation are on `imports`, in their import's record batch.
    """

    kind: Literal["s"] = "s"
    job_id: UUID
    workspace_id: UUID
    results: list[RowResult]


class ImportAccepted(ImportsRecord, frozen=True, kw_only=True):
    """Kafka has the whole import: its rows and the results of failed ones. Topic `imports`.

    `batch_records` counts the records of the import's batch, this one included. A batch with this
    number of records holds this import alone. `publishing_now` and `scheduled_for_later` count the
    rows that passed validation, by their `run_at`. `parent_id` is the job whose failed rows this
    import sends again.
    """

    kind: Literal["i"] = "i"
    type: Literal["import_accepted"] = "import_accepted"
    batch_records: int | None = None
    job_id: UUID
    workspace_id: UUID
    source_type: SourceType
    source_filename: str | None = None
    total_rows: Annotated[int, Meta(ge=1, le=MAX_ROWS)]
    accepted_at: StorableTime
    request_id: str | None = None
    warnings: list[Notice] = field(default_factory=list)
    publishing_now: int | None = None
    scheduled_for_later: int | None = None
    parent_id: UUID | None = None

    def __post_init__(self) -> None:
        require_storable_time("accepted_at", self.accepted_at)


class ImportRejected(ImportsRecord, frozen=True, kw_only=True):
    """A request from `import-requests` that failed validation. Topic `imports`.

    It becomes a failed job without rows. HTTP answers the same request with an error.
    """

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

    def __post_init__(self) -> None:
        require_storable_time("accepted_at", self.accepted_at)


class UploadFormat(StrEnum):
    """Formats of an upload: a CSV file, the body of a JSON import or an ImportRequested."""

    CSV = "csv"
    JSON = "json"
    REQUEST = "request"


class UploadParameters(WireStruct, frozen=True, kw_only=True, omit_defaults=True):
    """The parameters of an import, as they were sent. Its rows are read by them."""

    strict: bool = False
    timezone: str | None = None
    past_run_at: str | None = None
    account: str | None = None
    encoding: str | None = None
    on_existing: OnExisting = OnExisting.REPORT


REQUEST_PARAMETERS = ("timezone", "past_run_at", "account", "strict", "on_existing")
"""The parameters that a request by topic may have. It has no file, so it has no encoding."""


class FileUploaded(ImportsRecord, frozen=True, kw_only=True):
    """The file or body that a client sent, unchanged. Topic `imports`.

    The record's value is this event as one line of JSON, a line feed, then the upload's bytes,
    compressed as `encoding` says. `size` is in bytes before compression.
    """

    kind: Literal["u"] = "u"
    job_id: UUID
    workspace_id: UUID
    format: UploadFormat
    encoding: Literal["zstd"] = "zstd"
    size: Annotated[int, Meta(ge=0)]
    parameters: UploadParameters | None = None


class _ImportType(WireStruct, frozen=True, kw_only=True):
    type: Literal["import_accepted", "import_rejected"]


def _decode_import(value: bytes) -> ImportAccepted | ImportRejected:
    return _IMPORT_DECODERS[_decode_import_type(value).type](value)


_decode_import_type = decoder(_ImportType).strict
_IMPORT_DECODERS: dict[str, Callable[[bytes], ImportAccepted | ImportRejected]] = {
    "import_accepted": decoder(ImportAccepted).strict,
    "import_rejected": decoder(ImportRejected).strict,
}
decode_import: Decoder[ImportAccepted | ImportRejected] = Decoder(
    _decode_import,
    TypeAdapter(Annotated[ImportAccepted | ImportRejected, Field(discriminator="type")]),
)
"""Decodes a record of kind IMPORT."""


class ImportRequested(WireStruct, frozen=True, kw_only=True):
    """A request for an import by an upstream system. Topic `import-requests`.

    The type is `pinflow.import.requested.v1`; the record's key is the workspace id. This model
    checks only the ids. The other fields can be anything: ingest validates them by the same rules
    as over HTTP. `timezone`, `past_run_at`, `account`, `strict` and `on_existing` are the
    parameters of an import.
    """

    request_id: Annotated[str, Meta(min_length=1, max_length=255)]
    workspace_id: UUID
    source: Any = None
    rows: Any = None
    timezone: Any = None
    past_run_at: Any = None
    account: Any = None
    strict: Any = None
    on_existing: Any = None


class ImportCompleted(Event, frozen=True, kw_only=True):
    """All rows of a job have results. Topic `job-events`, type `pinflow.import.completed.v1`."""

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
    completed_at: AwareTime
