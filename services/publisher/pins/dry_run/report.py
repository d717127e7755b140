"""Reports what each check of a dry run found."""

from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from shared.contract.errors import ErrorCode


class CheckName(StrEnum):
    FIELDS = "fields"
    """All fields that no other check is about."""
    ACCOUNT = "account"
    BOARD = "board"
    MEDIA = "media"
    KEY = "idempotency_key"
    RUN_AT = "run_at"


class CheckStatus(StrEnum):
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
    """The content as it would be stored. None if something is wrong with its form."""
    existing_pin_id: UUID | None = None

    @property
    def valid(self) -> bool:
        return all(check.status is not CheckStatus.FAILED for check in self.checks)


_REMEDIES = {
    ErrorCode.VALIDATION_ERROR: "Mend what details.errors names.",
    ErrorCode.ACCOUNT_NOT_FOUND: "Take an account that GET /v1/pinterest/accounts lists.",
    ErrorCode.ACCOUNT_NOT_PERMITTED: "Take an account that this API key may use, or another key.",
    ErrorCode.BOARD_NOT_FOUND: "Take a board that GET /v1/pinterest/boards lists for this account.",
    ErrorCode.RUN_AT_IN_PAST: "Take a later time, or publish the pin at once: POST /v1/pins.",
    ErrorCode.UNKNOWN_FIELDS: "Leave them out, or mend their names.",
}
_OTHER_KEY_REMEDY = "Take another idempotency_key."


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
