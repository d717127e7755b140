"""Reads the request of a dry run field by field."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from services.publisher.ids import compute_pin_id
from services.publisher.pins.dry_run.report import Check, CheckName, failed
from shared.access.model import Destination, Principal
from shared.contract.events import Fault
from shared.contract.pins import PinSubmission, make_printable, read_faults
from shared.http.requests import find_misspelled_fields, validation_error

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


class PartialRequest:
    """A request of which some fields may be invalid. The other fields are still checked."""

    def __init__(
        self, model: type[PinSubmission], fields: Mapping[str, Any], names: Collection[str]
    ) -> None:
        """Reads the fields in `names` and ignores others, as a real request does."""
        self._model = model
        self._fields = {name: value for name, value in fields.items() if name in names}
        self._faults: list[Fault] = find_misspelled_fields(fields, names)
        misspelled = {fault.field for fault in self._faults}
        unknown = (make_printable(name) for name in fields if name not in names)
        self.unknown_names = [name for name in unknown if name not in misspelled]
        self.content: PinSubmission | None = None
        try:
            self.content = model.model_validate(self._fields)
        except ValidationError as error:
            self._faults += read_faults(error)

    def find_failed_check(self, name: CheckName) -> Check | None:
        """Builds the failed check if one of the faults belongs to it."""
        faults = [fault for fault in self._faults if _find_check_name(fault) is name]
        if not faults:
            return None
        error = validation_error(faults)
        return failed(name, error.code, error.message, **error.details)

    def read_value(self, name: str) -> Any:
        """Returns the value of a field as it would be stored. Returns None if it is invalid."""
        if self.content is not None:
            return getattr(self.content, name)
        try:
            return TypeAdapter(self._model.model_fields[name].rebuild_annotation()).validate_python(
                self._fields.get(name)
            )
        except ValidationError:
            return None

    def find_destination(self, principal: Principal) -> Destination | None:
        """Returns the destination to look up. None if the account is invalid or not permitted."""
        account_id = self.read_value("account_id")
        if self.find_failed_check(CheckName.ACCOUNT) is not None or not principal.permits(
            account_id
        ):
            return None
        return Destination(principal.workspace_id, account_id, self.read_value("board_id") or "")

    def find_pin_id(self, principal: Principal) -> UUID | None:
        """Returns the pin id to look up. None if the key is invalid or the account not permitted.

        Without that rule, `payload_matches` would confirm a guess of another account's content.
        """
        is_permitted = principal.permits(self.read_value("account_id"))
        if self.find_failed_check(CheckName.KEY) is not None or not is_permitted:
            return None
        return compute_pin_id(principal.workspace_id, self.read_value("idempotency_key"))

    def dump_content(self, *hidden: str) -> dict[str, Any] | None:
        """Returns the content to store, without `hidden`. None if a field is invalid."""
        return (
            None
            if self.content is None
            else self.content.model_dump(mode="json", exclude_none=True, exclude=set(hidden))
        )


def _find_check_name(fault: Fault) -> CheckName:
    field = (fault.field or "").partition(".")[0]
    return _FIELD_CHECKS.get(field) or _FAULT_CHECKS.get(fault.code, CheckName.FIELDS)
