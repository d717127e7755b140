"""The report of a dry run: the result of each check, with a remedy."""

from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from shared.contract.errors import ErrorCode


class CheckName(StrEnum):
    """The name of a check. `fields` covers all fields that have no check of their own.

    `delivery` is there only if the pin would not be delivered to Pinterest as it is.
    """

    FIELDS = "fields"
    ACCOUNT = "account"
    BOARD = "board"
    MEDIA = "media"
    KEY = "idempotency_key"
    RUN_AT = "run_at"
    DELIVERY = "delivery"


class CheckStatus(StrEnum):
    """The result of a check.

    - `passed`: nothing is wrong.
    - `failed`: the real request would be refused.
    - `warning`: the real request would be accepted, perhaps not as it was meant.
    - `skipped`: could not be made because an earlier check failed.
    """

    PASSED = "passed"
    FAILED = "failed"
    WARNING = "warning"
    SKIPPED = "skipped"


class Check(NamedTuple):
    name: CheckName
    status: CheckStatus
    message: str
    code: str | None = None
    remediation: str | None = None
    details: dict[str, Any] | None = None


class Report(NamedTuple):
    checks: list[Check]
    resolved: dict[str, Any] | None
    """The content as it would be stored. None if a field is invalid."""
    existing_pin_id: UUID | None = None

    @property
    def valid(self) -> bool:
        return all(check.status is not CheckStatus.FAILED for check in self.checks)


_REMEDIES = {
    ErrorCode.VALIDATION_ERROR: "Correct the fields in details.errors.",
    ErrorCode.ACCOUNT_NOT_FOUND: "Use an account from GET /v1/pinterest/accounts.",
    ErrorCode.ACCOUNT_NOT_PERMITTED: "Use an account that the API key permits, or another API key.",
    ErrorCode.BOARD_NOT_FOUND: "Use one of the account's boards: GET /v1/pinterest/boards.",
    ErrorCode.RUN_AT_IN_PAST: "Use a later time, or publish the pin now: POST /v1/pins.",
    ErrorCode.COVER_IGNORED: "Remove the cover, or send a video's address as image_url.",
    ErrorCode.RELATED_TERMS_IGNORED: "Nothing, if the pin is fine without them.",
    ErrorCode.SHORTENED_LINK: "Use the address to which the link leads.",
    ErrorCode.UNKNOWN_FIELDS: "Remove these fields, or correct their names.",
}
_OTHER_KEY_REMEDY = "Use a different idempotency_key."


def passed(name: CheckName, message: str) -> Check:
    return Check(name, CheckStatus.PASSED, message)


def skipped(name: CheckName, message: str) -> Check:
    return Check(name, CheckStatus.SKIPPED, message)


def warned(name: CheckName, code: ErrorCode, message: str, **details: Any) -> Check:
    return Check(
        name, CheckStatus.WARNING, message, code, _find_remedy(name, code), details or None
    )


def failed(name: CheckName, code: str, message: str, **details: Any) -> Check:
    return Check(
        name,
        CheckStatus.FAILED,
        message,
        code,
        _find_remedy(name, ErrorCode(code)),
        details or None,
    )


def _find_remedy(name: CheckName, code: ErrorCode) -> str | None:
    return _REMEDIES.get(code) or (_OTHER_KEY_REMEDY if name is CheckName.KEY else None)
