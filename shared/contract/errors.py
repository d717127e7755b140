"""The error tree, the codes, and what a consumer may make of a failure.

    PinflowError
    ├── Unavailable            a server's fault that passes: wait, try again
    │   ├── DatabaseUnavailable
    │   ├── BrokerUnavailable
    │   │   └── AcceptanceUnknown
    │   └── PositionBehind     Postgres is older than the consumer's batch: read the positions anew
    ├── Poison                 a record that can never be processed: dead letter, go on
    └── ApiError         a request that is answered with a code, a message and a status
        └── Overloaded         there is no room for it now: 429; a consumer waits, which is no fault

Anything else that is raised is a bug: logged once with its trace, answered 500, waited out by a
consumer.
"""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

RETRY_AFTER = {"Retry-After": "1"}
"""Of a 503: what is in the way will have passed by then, or the next answer says so again."""


class ErrorCode(StrEnum):
    """Every code that an answer, a row result or a dead letter can carry."""

    # A request, as a whole
    INVALID_JSON = "invalid_json"
    INVALID_PAYLOAD = "invalid_payload"
    INVALID_PARAMETER = "invalid_parameter"
    SEARCH_TOO_WIDE = "search_too_wide"
    """Of a list: more rows would have to be looked at than may be."""
    EMPTY_IMPORT = "empty_import"
    TOO_MANY_ROWS = "too_many_rows"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    EMPTY_FILE = "empty_file"
    MISSING_COLUMNS = "missing_columns"
    DUPLICATE_COLUMNS = "duplicate_columns"
    INVALID_ENCODING = "invalid_encoding"
    INVALID_CSV = "invalid_csv"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID_MULTIPART = "invalid_multipart"
    MISSING_FILE = "missing_file"
    INVALID_REQUEST = "invalid_request"
    """Said by the gateway: what follows the header is no body."""
    REQUEST_TIMEOUT = "request_timeout"
    TOO_BUSY = "too_busy"
    UNAUTHORIZED = "unauthorized"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    """Of keys that were not good, from one address."""
    INSUFFICIENT_SCOPE = "insufficient_scope"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_SUPPORTED = "not_supported"
    """Of PinBridge's API, what Pinflow leaves out."""
    ACCOUNT_NOT_PERMITTED = "account_not_permitted"
    """The key's allow-list does not have the account."""
    API_KEY_REVOKED = "api_key_revoked"
    TOO_MANY_API_KEYS = "too_many_api_keys"
    TOO_MANY_BOARDS = "too_many_boards"
    ACCOUNT_REVOKED = "token_revoked"
    """PinBridge's word for an account that nothing can be published to any more."""
    ALREADY_SCHEDULED = "already_scheduled"
    PIN_DELETED = "pin_deleted"
    TOO_MANY_WEBHOOKS = "too_many_webhooks"
    WEBHOOK_DISABLED = "webhook_disabled"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    """With another content."""
    PIN_ALREADY_PUBLISHED = "pin_already_published"
    PIN_NOT_FAILED = "pin_not_failed"
    SCHEDULE_ALREADY_PUBLISHED = "schedule_already_published"
    SCHEDULE_NOT_PENDING = "schedule_not_pending"
    RUN_AT_IN_PAST = "run_at_in_past"
    EMPTY_BATCH = "empty_batch"
    TOO_MANY_PINS = "too_many_pins"
    TOO_MANY_IDS = "too_many_ids"
    DUPLICATE_ID = "duplicate_id"
    """Of an id that stands in the same list before."""
    BROKER_UNAVAILABLE = "broker_unavailable"
    ACCEPTANCE_UNKNOWN = "acceptance_unknown"
    TOO_MANY_UNSETTLED_ROWS = "too_many_unsettled_rows"
    """Of this workspace."""
    OVERLOADED = "overloaded"
    """Pinflow as a whole has as much waiting as it may."""
    DATABASE_UNAVAILABLE = "database_unavailable"
    STATUS_BEHIND = "status_behind"
    KEY_RECOVERING = "key_recovering"
    """A direct pin's key belongs to a row that a restored Postgres lost and publishes again."""
    SERVICE_UNAVAILABLE = "service_unavailable"
    """Said by the gateway: the service behind it is away."""
    INTERNAL_ERROR = "internal_error"

    # A row of an import, or a single pin
    VALIDATION_ERROR = "validation_error"
    ACCOUNT_NOT_FOUND = "account_not_found"
    BOARD_NOT_FOUND = "board_not_found"
    ROW_LOST = "row_lost"
    """Kafka lost the row before it was published. An operator settled it (`pinflow recover`)."""

    # A dry run
    UNKNOWN_FIELDS = "unknown_fields"
    IDEMPOTENCY_KEY_TAKEN = "idempotency_key_taken"
    ASSET_NOT_CHECKED = "asset_not_checked"

    # A dead letter
    INVALID_RECORD = "invalid_record"
    REQUEST_ID_REUSED = "request_id_reused"
    WORKSPACE_NOT_FOUND = "workspace_not_found"
    RECORD_REFUSED = "record_refused"


class PinflowError(Exception):
    """The root of what Pinflow raises on purpose."""


class Unavailable(PinflowError):
    """A server is away, slow or restarting.

    Nothing is wrong with what was asked: wait and ask again.
    """


class DatabaseUnavailable(Unavailable):
    """Postgres is away, restarting, read-only or out of connections."""


class BrokerUnavailable(Unavailable):
    """Kafka is away, or did not answer in time."""


class AcceptanceUnknown(BrokerUnavailable):
    """Kafka did not acknowledge an append in time: the import stands whole or not at all."""


class PositionBehind(Unavailable):
    """A stored position is behind a batch, or the connection is newer than their last reading.

    Postgres may have been replaced by an older copy. Nothing was written: read the positions again.
    """


class ValueRejected(PinflowError):
    """Postgres would not take a value: no retry mends it.

    Somewhere in the batch is a record that must be given up.
    """


class Poison(PinflowError):
    """A record that no retry can mend. It goes to dead letters with this code and message."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ApiError(PinflowError):
    """A request that is answered `{"detail": {"code": …, "message": …, **details}}`."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY,
        *,
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = dict(headers or {})
        self.details = details

    def body(self) -> dict[str, Any]:
        return {"detail": {"code": self.code, "message": self.message, **self.details}}


class Overloaded(ApiError):
    """Too much is waiting already: 429, nothing was done, and there is room in about `retry_after`
    seconds.
    """

    def __init__(self, code: ErrorCode, message: str, *, retry_after: int, **details: Any) -> None:
        status = HTTPStatus.TOO_MANY_REQUESTS
        super().__init__(
            code, message, status, headers={"Retry-After": str(retry_after)}, **details
        )
        self.retry_after = retry_after


def not_found(what: str) -> ApiError:
    """Makes the one answer for what does not exist or is another workspace's (invariant 10)."""
    return ApiError(ErrorCode.NOT_FOUND, f"{what} not found", HTTPStatus.NOT_FOUND)
