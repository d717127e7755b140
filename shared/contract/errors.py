"""Defines the error tree and every error code.

    PinflowError
    ├── Unavailable            a server fails for a while: wait, then retry
    │   ├── DatabaseUnavailable
    │   ├── BrokerUnavailable
    │   │   ├── ProcessNotConnected
    │   │   └── AcceptanceUnknown
    │   └── PositionBehind     Postgres is older than the consumer's batch: read the positions again
    ├── ValueRejected          Postgres rejects a value: give up the record that has it
    ├── Poison                 a record that can never be processed: it becomes a dead letter
    └── ApiError               a request that is answered with a code, a message and a status
        └── Overloaded         a limit on work is reached: HTTP answers 429, a consumer waits

Any other exception is a bug and is logged with its traceback. HTTP answers 500. A consumer waits
and retries, and logs each attempt.
"""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

RETRY_AFTER = {"Retry-After": "1"}
"""Headers of a 503. Most outages are short. In a longer one the next answer is a 503 too."""


class ErrorCode(StrEnum):
    """Every code of an error response, a row result, a dry run or a dead letter.

    A single fault and a warning have codes of their own.
    """

    # A whole request
    INVALID_JSON = "invalid_json"
    INVALID_PAYLOAD = "invalid_payload"
    INVALID_PARAMETER = "invalid_parameter"
    UNKNOWN_PARAMETER = "unknown_parameter"
    """A query parameter or a form field that the request does not have."""
    SEARCH_TOO_WIDE = "search_too_wide"
    """A list would have to scan more rows than its limit allows."""
    EMPTY_IMPORT = "empty_import"
    TOO_MANY_ROWS = "too_many_rows"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    EMPTY_FILE = "empty_file"
    MISSING_COLUMNS = "missing_columns"
    DUPLICATE_COLUMNS = "duplicate_columns"
    UNKNOWN_COLUMNS = "unknown_columns"
    """Columns whose names are nearly those of known ones."""
    INVALID_ENCODING = "invalid_encoding"
    INVALID_CSV = "invalid_csv"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    NOT_ACCEPTABLE = "not_acceptable"
    """No format of the answer is among those that the header Accept allows."""
    INVALID_MULTIPART = "invalid_multipart"
    MISSING_FILE = "missing_file"
    INVALID_REQUEST = "invalid_request"
    """The gateway's answer to a malformed body or an unknown HTTP method."""
    REQUEST_TIMEOUT = "request_timeout"
    TOO_BUSY = "too_busy"
    UNAUTHORIZED = "unauthorized"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    """One address tried too many wrong API keys."""
    INSUFFICIENT_SCOPE = "insufficient_scope"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_SUPPORTED = "not_supported"
    """An operation of PinBridge's API that Pinflow does not have."""
    ACCOUNT_NOT_PERMITTED = "account_not_permitted"
    """The account is not on the key's allow-list."""
    API_KEY_REVOKED = "api_key_revoked"
    TOO_MANY_API_KEYS = "too_many_api_keys"
    TOO_MANY_BOARDS = "too_many_boards"
    ACCOUNT_REVOKED = "token_revoked"
    """PinBridge's code for an account to which nothing can be published any more."""
    PINTEREST_OFF = "pinterest_off"
    """The operator has not set up an app at Pinterest."""
    OAUTH_STATE_INVALID = "oauth_state_invalid"
    """The `state` of a callback was not issued by this installation."""
    OAUTH_STATE_USED = "oauth_state_used"
    """The attempt to connect an account has expired, or is already being processed."""
    OAUTH_DENIED = "oauth_denied"
    """The user, or Pinterest, did not allow the access."""
    APP_NOT_ACCEPTED = "app_not_accepted"
    """Pinterest does not accept the id and secret of the installation's app."""
    ACCOUNT_MISMATCH = "account_mismatch"
    """The access was allowed for another user of Pinterest than the account's."""
    ACCOUNT_NOT_CONNECTED = "account_not_connected"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    SCOPE_MISSING = "scope_missing"
    APP_NOT_APPROVED = "app_not_approved"
    """Pinterest has not approved the installation's app for the operation."""
    BOARD_ACCESS_DENIED = "board_access_denied"
    RATE_LIMITED = "rate_limited"
    """Pinterest takes no more requests of the account for a while."""
    PINTEREST_REFUSED = "pinterest_refused"
    """Pinterest answered that something is wrong with the request."""
    PINTEREST_UNAVAILABLE = "pinterest_unavailable"
    PINTEREST_UNCONFIRMED = "pinterest_unconfirmed"
    """The answer to a change was lost: Pinterest may have made it or not."""
    QUOTA_EXCEEDED = "quota_exceeded"
    """The account, or the app, has no requests left for the day."""
    MEDIA_UNREACHABLE = "media_unreachable"
    """The image or video could not be fetched, after several tries."""
    MEDIA_REJECTED = "media_rejected"
    """Pinterest does not take the image or video."""
    PUBLISH_UNCONFIRMED = "publish_unconfirmed"
    """Pinterest may have made the pin or not, and its lists can't settle it."""
    PIN_PUBLISHING = "pin_publishing"
    """The pin is being sent to Pinterest, so it can't be changed now."""
    ALREADY_SCHEDULED = "already_scheduled"
    PIN_DELETED = "pin_deleted"
    TOO_MANY_WEBHOOKS = "too_many_webhooks"
    WEBHOOK_DISABLED = "webhook_disabled"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    """The key was used before, with different content."""
    REQUEST_IN_PROGRESS = "request_in_progress"
    """An earlier request with the same Idempotency-Key is still being processed."""
    JOB_NOT_FINISHED = "job_not_finished"
    """The command needs the results of all rows of the import."""
    NO_FAILED_ROWS = "no_failed_rows"
    """The import has no failed rows that could be sent again."""
    UPLOAD_EXPIRED = "upload_expired"
    """The import's file is not stored, or not any more."""
    PIN_ALREADY_PUBLISHED = "pin_already_published"
    PIN_NOT_FAILED = "pin_not_failed"
    SCHEDULE_ALREADY_PUBLISHED = "schedule_already_published"
    SCHEDULE_NOT_PENDING = "schedule_not_pending"
    RUN_AT_IN_PAST = "run_at_in_past"
    EMPTY_BATCH = "empty_batch"
    TOO_MANY_PINS = "too_many_pins"
    TOO_MANY_IDS = "too_many_ids"
    DUPLICATE_ID = "duplicate_id"
    """An id appears twice in one list."""
    BROKER_UNAVAILABLE = "broker_unavailable"
    ACCEPTANCE_UNKNOWN = "acceptance_unknown"
    TOO_MANY_UNSETTLED_ROWS = "too_many_unsettled_rows"
    """The workspace's backlog of rows is full."""
    OVERLOADED = "overloaded"
    """The backlog of the whole installation is full."""
    DATABASE_UNAVAILABLE = "database_unavailable"
    STATUS_BEHIND = "status_behind"
    KEY_RECOVERING = "key_recovering"
    """The key belongs to a row that Pinflow is publishing again after a restore of Postgres."""
    SERVICE_UNAVAILABLE = "service_unavailable"
    """A service does not answer: the gateway, or another service, could not reach it. Or it has not
    started completely."""
    INTERNAL_ERROR = "internal_error"
    INTERNAL_ACCESS_DENIED = "internal_access_denied"
    """A route under /internal was called without the installation's token."""

    # A row of an import, or a single pin
    VALIDATION_ERROR = "validation_error"
    UNKNOWN_FIELD = "unknown_field"
    """A field whose name is nearly that of a known one; with strict=true any unknown field."""
    ACCOUNT_NOT_FOUND = "account_not_found"
    BOARD_NOT_FOUND = "board_not_found"
    CANCELED = "canceled"
    """The import was canceled before the row was settled."""
    ROW_LOST = "row_lost"
    """Kafka lost the row before it was published. An operator settled it (`pinflow recover`)."""

    # A dry run
    UNKNOWN_FIELDS = "unknown_fields"
    IDEMPOTENCY_KEY_TAKEN = "idempotency_key_taken"
    ASSET_NOT_CHECKED = "asset_not_checked"
    COVER_IGNORED = "cover_ignored"
    RELATED_TERMS_IGNORED = "related_terms_ignored"
    SHORTENED_LINK = "shortened_link"

    # A dead letter
    INVALID_RECORD = "invalid_record"
    REQUEST_ID_REUSED = "request_id_reused"
    WORKSPACE_NOT_FOUND = "workspace_not_found"
    RECORD_REFUSED = "record_refused"


ERRORS_PAGE = "/docs/errors"
"""The gateway's page about all codes. Each code has a section, whose anchor is the code."""


def build_help_path(code: str) -> str:
    """Returns the path of the code's section, for `help` in an error."""
    return f"{ERRORS_PAGE}#{code}"


class PinflowError(Exception):
    """Base class of all exceptions that Pinflow raises on purpose."""


class Unavailable(PinflowError):
    """A server is down, slow or restarting.

    Nothing is wrong with the request: wait, then retry it.
    """


class DatabaseUnavailable(Unavailable):
    """Postgres is down, restarting, read-only or out of connections."""


class BrokerUnavailable(Unavailable):
    """Kafka is down or did not answer in time."""


class ProcessNotConnected(BrokerUnavailable):
    """This process is starting or stopping, and has no connection to Kafka. Kafka may be up."""


class AcceptanceUnknown(BrokerUnavailable):
    """Kafka did not acknowledge an append in time. It wrote the whole import or none of it."""


class PositionBehind(Unavailable):
    """Postgres may have been replaced by an older copy: a stored position is too low, or the
    connection is newer than the last read of the positions.

    Nothing was written. Read the positions again.
    """


class ValueRejected(PinflowError):
    """Postgres rejected a value, so a retry cannot succeed.

    One record of the batch must be given up.
    """


class Poison(PinflowError):
    """A record that no retry can process. It becomes a dead letter with this code and message."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ApiError(PinflowError):
    """An error that is answered with `{"detail": {"code": …, "message": …, "help": …}}`.

    `details` are further fields of `detail`.
    """

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
        detail = {"code": self.code, "message": self.message, "help": build_help_path(self.code)}
        return {"detail": detail | self.details}


class Overloaded(ApiError):
    """A limit on work is reached: the answer is 429 and nothing was done.

    There should be space in about `retry_after` seconds.
    """

    def __init__(self, code: ErrorCode, message: str, *, retry_after: int, **details: Any) -> None:
        status = HTTPStatus.TOO_MANY_REQUESTS
        super().__init__(
            code, message, status, headers={"Retry-After": str(retry_after)}, **details
        )
        self.retry_after = retry_after


def not_found(resource: str) -> ApiError:
    """Builds the 404 of a resource that does not exist or belongs to another workspace.

    The answer is the same in both cases (invariant 10 in docs/explanation/architecture.md).
    """
    message = f"{resource} not found. Check the id and the workspace of your API key."
    return ApiError(ErrorCode.NOT_FOUND, message, HTTPStatus.NOT_FOUND)
