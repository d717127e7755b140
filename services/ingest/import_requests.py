"""Rules for requests by topic: reads their keys, and decides what they become."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from services.ingest.ledger import LedgerEntry, RequestKey
from services.ingest.ledger_codec import RequestDecision
from services.ingest.model import Import, RawUpload
from services.ingest.parsing.policy import ImportParameters
from services.ingest.parsing.reading import RawTable
from services.ingest.parsing.rows import ParsedRows, require_rows
from services.ingest.reader import ReadingScope
from services.ingest.records import build_batch, build_rejection_batch
from shared.contract.cloudevents import EventType
from shared.contract.errors import ApiError, ErrorCode, Poison
from shared.contract.events import (
    REQUEST_PARAMETERS,
    ImportRejected,
    ImportRequested,
    Notice,
    SourceType,
    UploadFormat,
)
from shared.contract.field_names import (
    MAX_LISTED_NAME_LENGTH,
    MAX_LISTED_NAMES,
    MAX_UNKNOWN_NAMES,
    describe_misspelling,
    suggest_field,
)
from shared.contract.pins import make_printable
from shared.contract.strict_json import build_too_deep, parse_json
from shared.contract.validation import describe_validation_error
from shared.contract.wire import decoder
from shared.kafka.records import Header

_requests = decoder(ImportRequested)
_PARAMETERS = TypeAdapter(ImportParameters)
_FIELDS = frozenset(ImportRequested.__struct_fields__)
MAX_SOURCE_LENGTH = 255
"""Maximum characters of `source`, the sender's name for the imported data."""


class ReceivedRequest(NamedTuple):
    """A request with its key and its body.

    The rows are parsed later: those of a whole batch could take half a gigabyte.
    """

    key: RequestKey
    body: bytes
    body_hash: bytes
    replay_headers: Sequence[Header]
    """The headers that count replays. Every record of the import gets them."""


def require_type(event_type: bytes | None) -> None:
    """Raises Poison if the CloudEvents type is not ImportRequested's."""
    if event_type != EventType.IMPORT_REQUESTED.encode():
        raise Poison(
            ErrorCode.INVALID_RECORD,
            f"ce_type: must be {EventType.IMPORT_REQUESTED}, "
            f"not {make_printable(repr(event_type))}",
        )


def identify_request(body: bytes, replay_headers: Sequence[Header]) -> ReceivedRequest:
    """Reads a request's key. Raises Poison if the request is invalid."""
    request, _ = _parse_request(body)
    if "\0" in request.request_id:
        raise Poison(
            ErrorCode.INVALID_RECORD,
            "request_id: must not contain the character NUL. Send a request_id without it.",
        )
    key = RequestKey(request.workspace_id, request.request_id)
    return ReceivedRequest(key, body, blake2b(body, digest_size=32).digest(), replay_headers)


def require_same_body(request: ReceivedRequest, entry: LedgerEntry) -> None:
    """Raises Poison if the key was used before with a different body."""
    if entry.body_hash != request.body_hash:
        message = (
            f"request_id {request.key.request_id} was used before with a different body. "
            "Send this body with a new request_id."
        )
        raise Poison(ErrorCode.REQUEST_ID_REUSED, message)


class ParsedRequest(NamedTuple):
    """A request's document with its key's entry in the ledger."""

    received: ReceivedRequest
    entry: LedgerEntry
    document: ImportRequested
    unknown_names: Sequence[str] = ()
    """The names of the document's other fields."""

    @property
    def scope(self) -> ReadingScope:
        """Raises ApiError if a parameter of the request is invalid or misspelled."""
        _refuse_misspelled(self.unknown_names)
        return ReadingScope(
            self.document.workspace_id, self.entry.accepted_at, _parse_parameters(self.document)
        )

    def parse_rows(self) -> RawTable:
        """Returns the rows. Raises ApiError."""
        _parse_source(self.document.source)
        rows = require_rows(self.document.rows)
        return RawTable(rows, warnings=_warn_of_unknown(self.unknown_names))

    def accept(self, rows: ParsedRows, *, keep_upload: bool) -> RequestDecision:
        """Decides that the request becomes an import with these rows."""
        body, parameters = self.received.body, self.scope.parameters
        accepted = Import(
            job_id=self.entry.job_id,
            workspace_id=self.document.workspace_id,
            accepted_at=self.entry.accepted_at,
            source_type=SourceType.JSON,
            source_filename=_parse_source(self.document.source),
            rows=rows,
            request_id=self.document.request_id,
            replay_headers=self.received.replay_headers,
            upload=RawUpload(UploadFormat.REQUEST, body, parameters.to_event())
            if keep_upload
            else None,
            on_existing=parameters.on_existing,
        )
        return RequestDecision(build_batch(accepted), accepted=True, failed_rows=len(rows.failed))

    def reject(self, refusal: ApiError) -> RequestDecision:
        """Decides that the request becomes a failed job with an error."""
        rejection = _build_rejection(self.document, self.entry, refusal)
        return RequestDecision(build_rejection_batch(rejection), accepted=False)


def parse_request(received: ReceivedRequest, entry: LedgerEntry) -> ParsedRequest:
    document, unknown_names = _parse_request(received.body)
    return ParsedRequest(received, entry, document, unknown_names)


def _parse_parameters(requested: ImportRequested) -> ImportParameters:
    try:
        return _PARAMETERS.validate_python(
            {
                name: value
                for name in REQUEST_PARAMETERS
                if (value := getattr(requested, name)) is not None
            }
        )
    except RecursionError:  # the error of an enumeration shows the whole value
        raise build_too_deep() from None
    except ValidationError as error:
        raise ApiError(ErrorCode.INVALID_PARAMETER, describe_validation_error(error)) from None


def _parse_request(body: bytes) -> tuple[ImportRequested, list[str]]:
    """Returns the request, and the names of its unknown fields."""
    try:
        document = parse_json(body)
        return _requests.from_document(document), [name for name in document if name not in _FIELDS]
    except ApiError as refusal:
        raise Poison(ErrorCode.INVALID_RECORD, refusal.message) from None
    except ValidationError as error:
        raise Poison(ErrorCode.INVALID_RECORD, describe_validation_error(error)) from None


def _refuse_misspelled(names: Sequence[str]) -> None:
    """Raises ApiError if a name is nearly that of a field, as HTTP refuses such a parameter.

    With a misspelled past_run_at=fail, rows would be published at once.
    """
    if len(names) > MAX_UNKNOWN_NAMES:
        message = (
            f"The request has {len(names)} unknown fields; the limit is {MAX_UNKNOWN_NAMES}. "
            "Remove them."
        )
        raise ApiError(ErrorCode.UNKNOWN_PARAMETER, message)
    for name in names:
        if (field := suggest_field(name, _FIELDS)) is not None:
            message = f"{make_printable(name)}: {describe_misspelling(field)}"
            raise ApiError(ErrorCode.UNKNOWN_PARAMETER, message)


def _warn_of_unknown(names: Sequence[str]) -> list[Notice]:
    if not names:
        return []
    listed = ", ".join(
        make_printable(name, MAX_LISTED_NAME_LENGTH) for name in names[:MAX_LISTED_NAMES]
    )
    message = f"Unknown fields of the request: {listed}. They are ignored. Remove them."
    return [Notice(code=ErrorCode.UNKNOWN_FIELDS, message=message)]


def _parse_source(source: object) -> str | None:
    if source is not None and not (isinstance(source, str) and len(source) <= MAX_SOURCE_LENGTH):
        raise ApiError(
            ErrorCode.INVALID_PAYLOAD,
            f"source: must be text of at most {MAX_SOURCE_LENGTH} characters.",
        )
    return make_printable(source, MAX_SOURCE_LENGTH) if source else None


def _build_rejection(
    request: ImportRequested, entry: LedgerEntry, refusal: ApiError
) -> ImportRejected:
    return ImportRejected(
        job_id=entry.job_id,
        workspace_id=request.workspace_id,
        source_filename=make_printable(request.source, MAX_SOURCE_LENGTH)
        if isinstance(request.source, str)
        else None,
        accepted_at=entry.accepted_at,
        request_id=request.request_id,
        error_code=refusal.code,
        error_message=refusal.message,
    )
