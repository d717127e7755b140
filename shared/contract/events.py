"""The contract between the services: what travels on the topics. Frozen, versioned, in the past
tense; changes are additive.

Records are JSON. The JSON Schemas are committed in docs/reference/events and compared by a test.
Events that leave Pinflow (`job-events`, `pin-events`) and requests that come in (`import-requests`)
are CloudEvents 1.0 in binary mode: the models below are their data.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, field
from pydantic import Field, TypeAdapter

from shared.contract.wire import Decoder, WireStruct, decoder

MAX_ROWS = 500
"""Rows in one import."""
MAX_ROW_FAULTS = 20
"""Faults told of one row."""
MAX_KEY_LENGTH = 255
"""Characters of an idempotency key, and of a board's id."""
MAX_REJECTED_VALUE_LENGTH = 200
"""Characters of a rejected value that are repeated to the client."""


class RecordKind(StrEnum):
    """Kinds of records on the topic `imports`, each of which has one reader
    (shared/contract/import_records.py).
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
    """The fields that all records of the topic `imports` share. `kind` comes first in the JSON
    (shared/contract/import_records.py). So it is a field: msgspec would write a tag of its own
    before it."""

    kind: str
    version: Literal[1] = 1


EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Postgres stores other times too, but psycopg can't read them: whoever lists or announces such a
job or pin would stop there.
"""
AwareTime = Annotated[datetime, Meta(tz=True)]
StorableTime = Annotated[AwareTime, Field(ge=EARLIEST, lt=LATEST)]
"""A time that Postgres and psycopg can store and read back.

msgspec has no bounds for times: a struct with such a field calls `require_storable_time`.
"""


def require_storable_time(name: str, time: datetime) -> None:
    """Raises ValueError for a time that no service could read back."""
    if not EARLIEST <= time < LATEST:
        raise ValueError(f"{name} must be from 1970 to 9998")


class SourceType(StrEnum):
    JSON = "json"
    CSV = "csv"


class RowStatus(StrEnum):
    CREATED = "created"
    EXISTING = "existing"
    FAILED = "failed"


class JobStatus(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"


class Fault(WireStruct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with a row. `field` is null when it is the row as a whole; `value` is
    cut at 200 characters.
    """

    code: str
    field: str | None = None
    message: str
    value: str | None = None


class Notice(WireStruct, frozen=True, kw_only=True):
    """Something the client should know of an import that was accepted all the same."""

    code: str
    message: str


class PinContent(WireStruct, frozen=True, kw_only=True, omit_defaults=True):
    """What a row asks to be published, validated: strings as sent, keys and ids without surrounding
    white space, times in UTC.

    What goes on into outcomes and pin events is bounded again, for whoever may write to `imports`:
    those records must fit into their topics.
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
    """One row of an accepted import, on its way to the publisher. Topic `imports`.

    `accepted_at` is the import's: whether `run_at` lies in the future is decided against it, never
    against a clock that moves. `fingerprint` has 32 hexadecimal digits
    (shared.contract.pins.compute_fingerprint).
    """

    kind: Literal["r"]
    job_id: UUID
    workspace_id: UUID
    row_number: Annotated[int, Meta(ge=1, le=MAX_ROWS)]
    accepted_at: AwareTime
    fingerprint: UUID
    row: PinContent


class RowResult(WireStruct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one row. Created: either pin_id or schedule_id, the first choice; existing:
    what the store has.
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


class RowsSettled(ImportsRecord, frozen=True, kw_only=True):
    """Rows of one job that have their outcome: one, or several. Topic `outcomes`.

    Rows that failed validation are settled on `imports`, in their import's own batch.
    """

    kind: Literal["s"] = "s"
    job_id: UUID
    workspace_id: UUID
    results: list[RowResult]


class ImportAccepted(ImportsRecord, frozen=True, kw_only=True):
    """A whole import stands in Kafka: its rows and the results of failed ones. Topic `imports`.

    `batch_records` counts the records of the import's batch, this one included. If a batch holds as
    many, it holds this import alone.
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

    def __post_init__(self) -> None:
        require_storable_time("accepted_at", self.accepted_at)


class ImportRejected(ImportsRecord, frozen=True, kw_only=True):
    """A request that came by topic and that HTTP would have refused: a failed job without rows.
    Topic `imports`.
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
    """The kinds of uploads: a CSV file, the body of a JSON import, or the data of an
    ImportRequested.
    """

    CSV = "csv"
    JSON = "json"
    REQUEST = "request"


class FileUploaded(ImportsRecord, frozen=True, kw_only=True):
    """A client's file or body, unchanged. Topic `imports`.

    The record's value is this event as one line of JSON, a line feed, then the upload's bytes,
    packed as `encoding` says. `size` is in bytes before packing.
    """

    kind: Literal["u"] = "u"
    job_id: UUID
    workspace_id: UUID
    format: UploadFormat
    encoding: Literal["zstd"] = "zstd"
    size: Annotated[int, Meta(ge=0)]


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
"""Decodes a record of the kind IMPORT."""


class ImportRequested(WireStruct, frozen=True, kw_only=True):
    """Asked for by an upstream system. Topic `import-requests`, type `pinflow.import.requested.v1`,
    key = workspace id.

    Only the ids are checked here; `source` and `rows` are whatever came, refused by the same rules
    as over HTTP.
    """

    request_id: Annotated[str, Meta(min_length=1, max_length=255)]
    workspace_id: UUID
    source: Any = None
    rows: Any = None


class ImportCompleted(Event, frozen=True, kw_only=True):
    """A job reached its end. Topic `job-events`, type `pinflow.import.completed.v1`."""

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


class PinEvent(Event, frozen=True, kw_only=True):
    """What the events of one pin share.

    Topic `pin-events`; job_id and row_number name the import it came from, if any.
    """

    pin_id: UUID
    workspace_id: UUID
    account_id: UUID
    board_id: str
    idempotency_key: str
    job_id: UUID | None = None
    row_number: int | None = None


class PinPublished(PinEvent, frozen=True, kw_only=True):
    """Type `pinflow.pin.published.v1`."""

    published_at: AwareTime


class PinScheduled(PinEvent, frozen=True, kw_only=True):
    """Type `pinflow.pin.scheduled.v1`."""

    schedule_id: UUID
    run_at: AwareTime


class PinFailed(PinEvent, frozen=True, kw_only=True):
    """A scheduled pin could not be published when it was due. Type `pinflow.pin.failed.v1`."""

    schedule_id: UUID | None = None
    error_code: str
    error_message: str
    failed_at: AwareTime


PUBLISHED_SCHEMAS: tuple[type[WireStruct], ...] = (
    ImportRequested,
    ImportAccepted,
    ImportRejected,
    RowAccepted,
    RowsSettled,
    FileUploaded,
    ImportCompleted,
    PinPublished,
    PinScheduled,
    PinFailed,
)
"""Every event whose JSON Schema is committed."""
