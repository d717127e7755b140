"""Checks of a dry run that need no I/O: reads a request field by field and reports each check."""

from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from services.publisher.model import failure_of
from services.publisher.pins.transitions import require_future
from shared.access.model import BoardCheck, Destination
from shared.contract.errors import ErrorCode, RequestRefused
from shared.contract.events import MAX_ROW_FAULTS, Fault
from shared.contract.pins import PinSubmission, faults_of, fingerprint, printable
from shared.http.requests import refused
from shared.postgres.row import Row


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


_FIELD_CHECKS = {
    "account_id": CheckName.ACCOUNT,
    "board_id": CheckName.BOARD,
    "idempotency_key": CheckName.KEY,
    "run_at": CheckName.RUN_AT,
    "image_url": CheckName.MEDIA,
    "asset_id": CheckName.MEDIA,
    "cover_image_url": CheckName.MEDIA,
    "cover_image_asset_id": CheckName.MEDIA,
}
_FAULT_CHECKS = {"media_source": CheckName.MEDIA, "cover_source": CheckName.MEDIA}

_REMEDIES = {
    ErrorCode.VALIDATION_ERROR: "Mend what details.errors names.",
    ErrorCode.ACCOUNT_NOT_FOUND: "Take an account that GET /v1/pinterest/accounts lists.",
    ErrorCode.ACCOUNT_NOT_PERMITTED: "Take an account that this API key may use, or another key.",
    ErrorCode.BOARD_NOT_FOUND: "Take a board that GET /v1/pinterest/boards lists for this account.",
    ErrorCode.RUN_AT_IN_PAST: "Take a later time, or publish the pin at once: POST /v1/pins.",
    ErrorCode.UNKNOWN_FIELDS: "Leave them out, or mend their names.",
}
_ANOTHER_KEY = "Take another idempotency_key."


class Attempt:
    """Reads a request as far as possible: one wrong field does not keep the others unchecked."""

    def __init__(
        self, model: type[PinSubmission], fields: Mapping[str, Any], known: Collection[str]
    ) -> None:
        """`known` are names of fields. Others are ignored, as a real request's are."""
        self._model = model
        self._fields = {name: value for name, value in fields.items() if name in known}
        self.unknown = [printable(name) for name in fields if name not in known]
        self.content: PinSubmission | None = None
        self._faults: list[Fault] = []
        try:
            self.content = model.model_validate(self._fields)
        except ValidationError as error:
            self._faults = faults_of(error)

    def wrong(self, name: CheckName) -> Check | None:
        """Returns the check as failed, if a fault belongs to it."""
        faults = [fault for fault in self._faults if _check_name(fault) is name]
        if not faults:
            return None
        refusal = refused(faults)
        return failed(name, refusal.code, refusal.message, **refusal.details)

    def value(self, name: str) -> Any:
        """Returns a field as it would be stored. None if it can't be."""
        if self.content is not None:
            return getattr(self.content, name)
        try:
            return TypeAdapter(self._model.model_fields[name].rebuild_annotation()).validate_python(
                self._fields.get(name)
            )
        except ValidationError:
            return None

    def resolved(self, *hidden: str) -> dict[str, Any] | None:
        """Returns the content as it would be stored. None if something is wrong with its form."""
        return (
            None
            if self.content is None
            else self.content.model_dump(mode="json", exclude_none=True, exclude=set(hidden))
        )


def _check_name(fault: Fault) -> CheckName:
    field = (fault.field or "").partition(".")[0]
    return _FIELD_CHECKS.get(field) or _FAULT_CHECKS.get(fault.code, CheckName.FIELDS)


def check_fields(attempt: Attempt) -> Check:
    if (wrong := attempt.wrong(CheckName.FIELDS)) is not None:
        return wrong
    if unknown := attempt.unknown[:MAX_ROW_FAULTS]:
        message = f"Not known here and ignored: {', '.join(unknown)}."
        return warned(CheckName.FIELDS, ErrorCode.UNKNOWN_FIELDS, message, fields=unknown)
    return passed(CheckName.FIELDS, "All fields are valid.")


def check_media(attempt: Attempt) -> Check:
    if (wrong := attempt.wrong(CheckName.MEDIA)) is not None:
        return wrong
    if attempt.value("asset_id") is not None:
        return warned(
            CheckName.MEDIA, ErrorCode.ASSET_NOT_CHECKED, "asset_id is handed on, not looked up."
        )
    return passed(CheckName.MEDIA, "image_url is well-formed; it is not fetched.")


def check_run_at(attempt: Attempt, now: datetime) -> Check:
    if (wrong := attempt.wrong(CheckName.RUN_AT)) is not None:
        return wrong
    try:
        require_future(attempt.value("run_at"), now)
    except RequestRefused as refusal:
        return failed(CheckName.RUN_AT, refusal.code, refusal.message)
    return passed(CheckName.RUN_AT, "run_at lies in the future.")


def check_board(check: BoardCheck, destination: Destination) -> Check:
    if check is BoardCheck.NO_BOARD:
        return failed(CheckName.BOARD, *failure_of(check, destination))
    return passed(CheckName.BOARD, "The account has this board.")


def key_taken(row: Row, content: PinSubmission | None) -> Check:
    details = (
        {} if content is None else {"payload_matches": fingerprint(content) == row["fingerprint"]}
    )
    message = (
        "The key is taken: the request would be answered what stands under it, and make nothing "
        "new."
    )
    return warned(CheckName.KEY, ErrorCode.IDEMPOTENCY_KEY_TAKEN, message, **details)


def key_refused(refusal: RequestRefused) -> Check:
    return failed(CheckName.KEY, refusal.code, refusal.message, **refusal.details)


def passed(name: CheckName, message: str) -> Check:
    return Check(name, CheckStatus.PASSED, message)


def skipped(name: CheckName, message: str) -> Check:
    return Check(name, CheckStatus.SKIPPED, message)


def warned(name: CheckName, code: ErrorCode, message: str, **details: Any) -> Check:
    return Check(name, CheckStatus.WARNING, message, code, _remedy(name, code), details or None)


def failed(name: CheckName, code: str, message: str, **details: Any) -> Check:
    return Check(
        name, CheckStatus.FAILED, message, code, _remedy(name, ErrorCode(code)), details or None
    )


def _remedy(name: CheckName, code: ErrorCode) -> str | None:
    return _REMEDIES.get(code) or (_ANOTHER_KEY if name is CheckName.KEY else None)
