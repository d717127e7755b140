"""Holds a row while its account and board are looked up: its fields, and their validation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from services.ingest.parsing.directory import Ambiguous, Directory
from shared.contract.events import MAX_KEY_LENGTH, Fault
from shared.contract.pins import PinSubmission, make_printable, read_faults
from shared.contract.run_at import ZONE


class Validation(NamedTuple):
    """The pin of a row, or its faults."""

    pin: PinSubmission | None
    faults: list[Fault]


@dataclass(slots=True)
class OpenRow:
    """A row that may only be judged with the directory. Its names are replaced in place."""

    row_number: int
    line: int | None
    fields: dict[str, Any]
    """The row's values by known names."""
    faults: list[Fault]
    """The faults of its names."""
    _validated: dict[str, Any] | None = field(default=None, init=False)
    """The fields to which `_validation` applies."""
    _validation: Validation = field(default=Validation(None, []), init=False)

    def validate(self, zone: ZoneInfo | None) -> Validation:
        """Validates the fields. A row takes 30 µs, so this is only repeated if they changed."""
        if self._validated != self.fields:
            self._validated = dict(self.fields)
            self._validation = _validate(self.fields, zone)
        return self._validation

    def validate_without_account_name(self, zone: ZoneInfo | None) -> Validation:
        """Validates the fields as if the name of the account were the id of one."""
        if not self.has_account_name:
            return self.validate(zone)
        return _validate(self.fields | {"account_id": str(UUID(int=0))}, zone)

    @property
    def account_id(self) -> UUID | None:
        """Returns the account's id. None if the row gives none."""
        value = self.fields.get("account_id")
        try:
            return UUID(value.strip()) if isinstance(value, str) else None
        except ValueError:
            return None

    @property
    def has_account_name(self) -> bool:
        """Returns whether the account may be given by its name."""
        account = self.fields.get("account_id")
        return (
            isinstance(account, str)
            and 0 < len(account.strip()) <= MAX_KEY_LENGTH
            and self.account_id is None
        )

    def add_default_account(self, account_id: UUID) -> None:
        """Adds the account of the import if the row names none."""
        account = self.fields.get("account_id")
        if account is None or (isinstance(account, str) and not account.strip()):
            self.fields["account_id"] = str(account_id)

    def resolve_names(self, directory: Directory) -> list[Fault]:
        """Replaces the names of account and board by their ids. Returns the faults of the names."""
        faults = []
        account = self.fields.get("account_id")
        if isinstance(account, str) and self.account_id is None and account.strip():
            match directory.find_account(account.strip()):
                case UUID() as found:
                    self.fields["account_id"] = str(found)
                case Ambiguous(ids):
                    faults.append(_build_ambiguous("account_id", "accounts", ids, account))
                case None:
                    faults.append(_build_unknown_account(account))
        account_id, board = self.account_id, self.fields.get("board_id")
        if account_id is not None and isinstance(board, str):
            match directory.find_board(account_id, board.strip()):
                case str() as board_id:
                    self.fields["board_id"] = board_id
                case Ambiguous(ids):
                    faults.append(_build_ambiguous("board_id", "boards", ids, board))
                case None:
                    pass  # the publisher says that there is no such board
        return faults


def _validate(fields: dict[str, Any], zone: ZoneInfo | None) -> Validation:
    try:
        return Validation(PinSubmission.model_validate(fields, context={ZONE: zone}), [])
    except ValidationError as error:
        return Validation(None, read_faults(error))


def _build_unknown_account(value: str) -> Fault:
    message = (
        f"no account has the id or name {make_printable(value.strip())}. See the accounts: GET "
        "/v1/pinterest/accounts, or pinflow template."
    )
    return Fault(
        code="uuid_parsing", field="account_id", message=message, value=make_printable(value)
    )


def _build_ambiguous(name: str, things: str, ids: Sequence[str], value: str) -> Fault:
    message = f"{len(ids)} {things} have this name. Use the id: {', '.join(ids[:5])}."
    return Fault(code="ambiguous_name", field=name, message=message, value=make_printable(value))
