"""Finds what is meant by the field names of an import's rows, and collects the warnings.

Most rows have only known names and never come here.
"""

from enum import Enum, auto
from itertools import islice
from typing import Any, NamedTuple

from shared.contract.errors import ErrorCode
from shared.contract.events import MAX_ROW_FAULTS, Fault, Notice
from shared.contract.field_names import (
    MAX_LISTED_NAME_LENGTH,
    MAX_LISTED_NAMES,
    MAX_UNKNOWN_NAMES,
    describe_misspelling,
    find_alias,
    suggest_field,
)
from shared.contract.pins import PinSubmission, make_printable

FIELDS = frozenset(PinSubmission.model_fields)
MAX_EXAMINED_NAMES = 500
"""Distinct unknown names of an import that are examined. Comparing one takes 10 µs.

A row with a further one fails for the same reason.
"""


class _Kind(Enum):
    NOT_EXAMINED = auto()
    ALIAS = auto()
    MISSPELLED = auto()
    UNKNOWN = auto()


class _Meaning(NamedTuple):
    kind: _Kind
    field: str = ""


class FieldNames:
    """The unknown field names of one import's rows."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._meanings: dict[str, _Meaning] = {}
        self._rows_by_alias: dict[str, list[int]] = {}
        self._rows_by_unknown: dict[str, list[int]] = {}

    def resolve(self, number: int, row: dict[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
        """Returns the row with known names only, and the faults of its other names."""
        known = {name: value for name, value in row.items() if name in FIELDS}
        if len(known) == len(row):
            return known, []
        faults: list[Fault] = []
        if (count := len(row) - len(known)) > MAX_UNKNOWN_NAMES:
            return known, [_build_too_many(count)]
        others = ((name, value) for name, value in row.items() if name not in FIELDS)
        for name, value in others:
            meaning = self._find_meaning(name)
            match meaning.kind:
                case _Kind.NOT_EXAMINED:
                    faults.append(_build_not_examined(name, value))
                case _Kind.ALIAS if known.get(meaning.field) is None:
                    known[meaning.field] = value
                    self._rows_by_alias.setdefault(name, []).append(number)
                case _Kind.ALIAS:
                    faults.append(_build_duplicate(name, meaning.field, value))
                case _Kind.MISSPELLED:
                    faults.append(_build_misspelled(name, meaning.field, value))
                case _Kind.UNKNOWN if self._strict:
                    faults.append(_build_unknown(name, value))
                case _Kind.UNKNOWN:
                    self._rows_by_unknown.setdefault(name, []).append(number)
        return known, faults[:MAX_ROW_FAULTS]

    def build_warnings(self) -> list[Notice]:
        """Builds the warnings about aliases and about names that were ignored."""
        warnings = []
        if self._rows_by_alias:
            readings = (f"{_shorten(name)} as {find_alias(name)}" for name in self._rows_by_alias)
            message = f"Fields were read under other names: {_join(readings)}."
            warnings.append(_build_notice("field_aliases", message, self._rows_by_alias))
        if self._rows_by_unknown:
            names = (_shorten(name) for name in self._rows_by_unknown)
            message = (
                f"Unknown fields: {_join(names)}. Their values are ignored. With strict=true, a "
                "row with such a field fails. Correct or remove these fields."
            )
            warnings.append(_build_notice("unknown_fields", message, self._rows_by_unknown))
        return warnings

    def _find_meaning(self, name: str) -> _Meaning:
        if (meaning := self._meanings.get(name)) is not None:
            return meaning
        if len(self._meanings) >= MAX_EXAMINED_NAMES:
            return _Meaning(_Kind.NOT_EXAMINED)
        if (field := find_alias(name)) is not None:
            meaning = _Meaning(_Kind.ALIAS, field)
        elif (field := suggest_field(name, FIELDS)) is not None:
            meaning = _Meaning(_Kind.MISSPELLED, field)
        else:
            meaning = _Meaning(_Kind.UNKNOWN)
        self._meanings[name] = meaning
        return meaning


def _build_misspelled(name: str, field: str, value: object) -> Fault:
    return _build_fault(ErrorCode.UNKNOWN_FIELD, name, describe_misspelling(field), value)


def _build_too_many(count: int) -> Fault:
    message = f"The row has {count} unknown fields; the limit is {MAX_UNKNOWN_NAMES}. Remove them."
    return Fault(code=ErrorCode.UNKNOWN_FIELD, message=message)


def _build_not_examined(name: str, value: object) -> Fault:
    message = (
        f"There is no such field. The import has more than {MAX_EXAMINED_NAMES} different unknown "
        "fields. Remove them."
    )
    return _build_fault(ErrorCode.UNKNOWN_FIELD, name, message, value)


def _build_unknown(name: str, value: object) -> Fault:
    message = "There is no such field. Remove it, or import without strict=true."
    return _build_fault(ErrorCode.UNKNOWN_FIELD, name, message, value)


def _build_duplicate(name: str, field: str, value: object) -> Fault:
    message = f"This field is the same as {field}. Send only one of them."
    return _build_fault("duplicate_field", name, message, value)


def _build_fault(code: str, name: str, message: str, value: object) -> Fault:
    return Fault(
        code=code,
        field=make_printable(name),
        message=message,
        value=None if value is None else make_printable(value),
    )


def _build_notice(code: str, message: str, rows_by_name: dict[str, list[int]]) -> Notice:
    numbers = sorted({number for rows in rows_by_name.values() for number in rows})
    return Notice(code=code, message=message, row_numbers=numbers)


def _join(names: Any) -> str:
    return ", ".join(islice(names, MAX_LISTED_NAMES))


def _shorten(name: str) -> str:
    return make_printable(name, MAX_LISTED_NAME_LENGTH)
