"""Reads the rows that the fast path did not accept.

Such a row has faults, or something to find out: aliases or unknown fields, a time without an
offset, values to trim, or its account and board by name. All of a row's faults are found in one
pass, those of account and board too, so that one correction is enough.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from services.ingest.parsing.directory import Ambiguous, Directory, Names
from services.ingest.parsing.fast_path import is_board_id
from services.ingest.parsing.field_names import FieldNames
from services.ingest.parsing.policy import ReadingPolicy
from services.ingest.parsing.rows import UnusualRow, ValidRow
from shared.access.errors import describe_board_failure
from shared.access.model import BoardCheck, Destination
from shared.contract.errors import ErrorCode
from shared.contract.events import (
    MAX_KEY_LENGTH,
    MAX_ROW_FAULTS,
    Fault,
    Notice,
    RowResult,
    RowStatus,
)
from shared.contract.pins import (
    PinSubmission,
    compute_fingerprint,
    describe_first_fault,
    make_printable,
    read_faults,
)
from shared.contract.run_at import ZONE, is_ambiguous, parse_run_at
from shared.contract.wire import encode
from shared.spreadsheets.table import WrongCellCount


class _Validation(NamedTuple):
    """The pin of a row, or its faults."""

    pin: PinSubmission | None
    faults: list[Fault]


@dataclass(slots=True)
class _OpenRow:
    """A row that can only be judged with the directory."""

    row_number: int
    line: int | None
    fields: dict[str, Any]
    """The row's values by known names."""
    faults: list[Fault]
    """The faults of its names."""
    _validated: dict[str, Any] | None = field(default=None, init=False)
    """The fields to which `_validation` applies."""
    _validation: _Validation = field(default=_Validation(None, []), init=False)

    def validate(self, zone: ZoneInfo | None) -> _Validation:
        """Validates the fields. A row takes 30 µs, so this is only repeated if they changed."""
        if self._validated != self.fields:
            self._validated = dict(self.fields)
            self._validation = _validate(self.fields, zone)
        return self._validation

    def validate_without_account_name(self, zone: ZoneInfo | None) -> _Validation:
        """Validates the fields as if the name of the account were the id of one."""
        if not self.has_account_name:
            return self.validate(zone)
        return _validate(self.fields | {"account_id": str(UUID(int=0))}, zone)

    @property
    def has_account_name(self) -> bool:
        """Returns whether the account may be given by its name."""
        account = self.fields.get("account_id")
        return (
            isinstance(account, str)
            and 0 < len(account.strip()) <= MAX_KEY_LENGTH
            and _parse_account(self.fields) is None
        )


class UnusualRows:
    """Reads unusual rows in two steps. Between them the caller looks up accounts and boards."""

    def __init__(self, policy: ReadingPolicy) -> None:
        self._policy = policy
        self._names = FieldNames(strict=policy.strict)
        self._open: list[_OpenRow] = []
        self._ambiguous_times: list[int] = []
        self.valid: list[ValidRow] = []
        self.failed: list[RowResult] = []

    def read(self, rows: Iterable[UnusualRow]) -> None:
        """Reads the rows. Keeps those that need the directory for `complete`."""
        for number, line, row in rows:
            if isinstance(row, WrongCellCount):
                fault = Fault(code="cell_count", field=None, message=row.message)
                self.failed.append(_build_failed_result(number, line, None, [fault]))
                continue
            fields, faults = self._names.resolve(number, row)
            opened = _OpenRow(number, line, fields, faults)
            if faults or not self._accept_without_directory(opened):
                self._open.append(opened)

    def collect_names(self) -> Names | None:
        """Returns what must be looked up before `complete`. None if nothing is open."""
        if not self._open:
            return None
        accounts: set[str] = set()
        boards: set[str] = set()
        if self._policy.account_id is not None:
            accounts.add(str(self._policy.account_id))
        for row in self._open:
            for names, value in (
                (accounts, row.fields.get("account_id")),
                (boards, row.fields.get("board_id")),
            ):
                if isinstance(value, str) and 0 < len(name := value.strip()) <= MAX_KEY_LENGTH:
                    names.add(name)
        return Names(accounts, boards)

    @property
    def needs_directory(self) -> bool:
        """Returns whether an open row would be misjudged without the directory.

        Other open rows fail in any case. Only the faults of account and board would be missing.
        """
        return any(self._may_become_valid(row) for row in self._open)

    def complete(self, directory: Directory | None) -> None:
        """Judges the open rows. Without a directory, accounts and boards are not checked."""
        for row in self._open:
            result = self._judge(row, directory)
            if isinstance(result, ValidRow):
                self.valid.append(result)
            else:
                self.failed.append(result)
        self._open = []

    def build_warnings(self) -> list[Notice]:
        warnings = self._names.build_warnings()
        if self._ambiguous_times:
            message = (
                "Times that clocks show twice, because summer time ends: the first of the two is "
                "used. Write such times with their offset."
            )
            warnings.append(
                Notice(
                    code="ambiguous_local_time",
                    message=message,
                    row_numbers=sorted(self._ambiguous_times),
                )
            )
        return warnings

    def _accept_without_directory(self, row: _OpenRow) -> bool:
        self._add_default_account(row.fields)
        pin, _ = row.validate(self._policy.zone)
        if (
            pin is None
            or not is_board_id(pin.board_id)
            or not self._policy.accepts(pin.account_id, pin.run_at)
        ):
            return False
        self.valid.append(self._build_valid(row, pin))
        return True

    def _may_become_valid(self, row: _OpenRow) -> bool:
        """Returns whether the row has no faults if its account and board exist."""
        pin, _ = row.validate_without_account_name(self._policy.zone)
        if row.faults or pin is None:
            return False
        if row.has_account_name:
            return not (self._policy.fails_past_run_at and self._policy.is_past(pin.run_at))
        return self._policy.accepts(pin.account_id, pin.run_at)

    def _add_default_account(self, fields: dict[str, Any]) -> None:
        account = fields.get("account_id")
        if self._policy.account_id is not None and (
            account is None or (isinstance(account, str) and not account.strip())
        ):
            fields["account_id"] = str(self._policy.account_id)

    def _judge(self, row: _OpenRow, directory: Directory | None) -> ValidRow | RowResult:
        self._add_default_account(row.fields)
        sent = dict(row.fields)
        faults = list(row.faults)
        if directory is not None:
            faults += _resolve_names(row.fields, directory)
        zone = self._policy.zone
        pin, own_faults = row.validate(zone)
        # The name of an account that was not looked up may be right
        certain_faults = own_faults if directory else row.validate_without_account_name(zone).faults
        named = _fields_of(faults)
        faults += [fault for fault in certain_faults if fault.field not in named]
        faults += self._find_past_fault(row.fields, faults)
        faults += self._find_destination_faults(row.fields, sent, faults, directory)
        if pin is not None and not faults:
            return self._build_valid(row, pin)
        key = row.fields.get("idempotency_key")
        faults = faults[:MAX_ROW_FAULTS] or own_faults
        return _build_failed_result(row.row_number, row.line, key, faults)

    def _find_past_fault(self, fields: dict[str, Any], faults: Sequence[Fault]) -> list[Fault]:
        value = fields.get("run_at")
        if (
            not self._policy.fails_past_run_at
            or not isinstance(value, str)
            or not value.strip()
            or "run_at" in _fields_of(faults)
        ):
            return []
        try:
            run_at = parse_run_at(value, self._policy.zone)
        except ValueError:  # so many faults come before this one that the list was cut
            return []
        return [_build_past_fault(value)] if self._policy.is_past(run_at) else []

    def _find_destination_faults(
        self,
        fields: dict[str, Any],
        sent: dict[str, Any],
        faults: Sequence[Fault],
        directory: Directory | None,
    ) -> list[Fault]:
        """Finds the faults of account and board, if the row names both in a valid form."""
        account_id, board_id = _parse_account(fields), fields.get("board_id")
        if account_id is None:
            return []
        if not self._policy.permits(account_id):
            message = f"This API key may not publish to account {account_id}. Use a key that may."
            return [_build_fault(ErrorCode.ACCOUNT_NOT_PERMITTED, "account_id", message, sent)]
        if directory is None or not isinstance(board_id, str) or "board_id" in _fields_of(faults):
            return []
        destination = Destination(UUID(int=0), account_id, board_id.strip())
        check = directory.check(account_id, destination.board_id)
        if check is BoardCheck.KNOWN or not faults:
            return []  # the publisher fails a row whose only fault this is
        code, message = describe_board_failure(check, destination)
        name = "account_id" if check is BoardCheck.NO_ACCOUNT else "board_id"
        return [_build_fault(code, name, message.removeprefix(f"{name}: "), sent)]

    def _build_valid(self, row: _OpenRow, pin: PinSubmission) -> ValidRow:
        if self._policy.zone is not None and pin.run_at is not None:
            sent = row.fields["run_at"]
            if is_ambiguous(sent, self._policy.zone):
                self._ambiguous_times.append(row.row_number)
        return ValidRow(
            row.row_number,
            encode(pin.to_content()),
            compute_fingerprint(pin).hex.encode(),
            pin.idempotency_key,
            pin.run_at,
            row.line,
        )


def _validate(fields: dict[str, Any], zone: ZoneInfo | None) -> _Validation:
    try:
        return _Validation(PinSubmission.model_validate(fields, context={ZONE: zone}), [])
    except ValidationError as error:
        return _Validation(None, read_faults(error))


def _resolve_names(fields: dict[str, Any], directory: Directory) -> list[Fault]:
    """Replaces the names of account and board by their ids. Returns the faults of the names."""
    faults = []
    account = fields.get("account_id")
    if isinstance(account, str) and _parse_account(fields) is None and account.strip():
        match directory.find_account(account.strip()):
            case UUID() as found:
                fields["account_id"] = str(found)
            case Ambiguous(ids):
                faults.append(_build_ambiguous("account_id", "accounts", ids, account))
            case None:
                faults.append(_build_unknown_account(account))
    account_id, board = _parse_account(fields), fields.get("board_id")
    if account_id is not None and isinstance(board, str):
        match directory.find_board(account_id, board.strip()):
            case str() as board_id:
                fields["board_id"] = board_id
            case Ambiguous(ids):
                faults.append(_build_ambiguous("board_id", "boards", ids, board))
            case None:
                pass  # the publisher says that there is no such board
    return faults


def _parse_account(fields: dict[str, Any]) -> UUID | None:
    value = fields.get("account_id")
    try:
        return UUID(value.strip()) if isinstance(value, str) else None
    except ValueError:
        return None


def _fields_of(faults: Iterable[Fault]) -> set[str | None]:
    return {fault.field for fault in faults if fault.field is not None}


def _build_unknown_account(value: str) -> Fault:
    message = (
        "no account has this id or name. See the accounts: GET /v1/pinterest/accounts, or pinflow "
        "template."
    )
    return Fault(
        code="uuid_parsing", field="account_id", message=message, value=make_printable(value)
    )


def _build_ambiguous(name: str, things: str, ids: Sequence[str], value: str) -> Fault:
    message = f"{len(ids)} {things} have this name. Use the id: {', '.join(ids[:5])}."
    return Fault(code="ambiguous_name", field=name, message=message, value=make_printable(value))


def _build_past_fault(value: object) -> Fault:
    message = (
        "This time has passed. Choose a later one, or import without past_run_at=fail (or --past "
        "fail) to publish the row at once."
    )
    return Fault(
        code=ErrorCode.RUN_AT_IN_PAST,
        field="run_at",
        message=message,
        value=make_printable(value),
    )


def _build_fault(code: str, name: str, message: str, sent: dict[str, Any]) -> Fault:
    return Fault(code=code, field=name, message=message, value=make_printable(sent.get(name)))


def _build_failed_result(
    number: int, line: int | None, key: object, faults: list[Fault]
) -> RowResult:
    code, message = describe_first_fault(faults)
    return RowResult(
        row_number=number,
        status=RowStatus.FAILED,
        idempotency_key=make_printable(key.strip(), MAX_KEY_LENGTH)
        if isinstance(key, str)
        else None,
        error_code=code,
        error_message=message,
        errors=faults,
        line=line,
    )
