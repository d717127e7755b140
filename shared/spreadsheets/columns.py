"""Finds the field of each column by the header, and refuses or warns about the others."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import Notice
from shared.contract.field_names import find_alias, normalize_name, suggest_field
from shared.contract.pins import PinSubmission, make_printable
from shared.spreadsheets.refusals import invalid_csv

KNOWN_COLUMNS = frozenset(PinSubmission.model_fields)
REQUIRED_COLUMNS = tuple(
    name for name, field in PinSubmission.model_fields.items() if field.is_required()
)
MAX_COLUMNS = 200
MAX_LISTED_COLUMNS = 50
MAX_NAME_LENGTH = 100

_FIELDS = {normalize_name(name): name for name in KNOWN_COLUMNS}
_ADVICE = {
    "idempotency_key": (
        "idempotency_key is a value of your own that is different for each pin, for example the "
        "article number: add such a column."
    ),
    "account_id": (
        "account_id is not needed if the import names one account for all rows, with the parameter "
        "account or pinflow import --account."
    ),
}
"""Advice about missing columns that the templates of other programs do not have."""


class CsvColumn(NamedTuple):
    """A column: its name as shown, and its field if the name is known."""

    name: str
    field: str | None
    is_result: bool = False
    """True for a result column, which is ignored (shared/spreadsheets/result_files.py)."""


_NAMELESS = CsvColumn("", None)
_RESULT = CsvColumn("", None, is_result=True)


def find_field(name: str) -> str | None:
    """Returns the field that a header's cell names, in any spelling or by an alias."""
    return name if name in KNOWN_COLUMNS else _FIELDS.get(normalize_name(name)) or find_alias(name)


def read_columns(
    header: Sequence[str], optional: Collection[str], results: Collection[int] = ()
) -> list[CsvColumn]:
    """Finds the field of each column. `results` are the indices of result columns.

    Raises ApiError if there are too many columns, or if one is duplicate, misspelled or missing.
    """
    # Before the names are compared with the known ones: 40 000 names take a second
    own = [cell for index, cell in enumerate(header) if index not in results] if results else header
    names = [cell.strip() for cell in own if cell and not cell.isspace()]
    if (count := len(names)) > MAX_COLUMNS:
        repeated = [name for name, times in Counter(names).items() if times > 1]
        shown = [CsvColumn(clean_name(name), None) for name in repeated[:MAX_LISTED_COLUMNS]]
        _refuse_duplicates(shown * 2, [clean_name(name) for name in names[:MAX_LISTED_COLUMNS]])
        message = f"The file has {count} columns; the limit is {MAX_COLUMNS}. Remove unused ones."
        raise invalid_csv(message, limit=MAX_COLUMNS, count=count)
    columns = [
        CsvColumn(clean_name(cell), find_field(cell)) if cell else _NAMELESS for cell in header
    ]
    for index in results:
        columns[index] = _RESULT
    listed = [column.name for column in columns[:MAX_LISTED_COLUMNS]]
    _refuse_duplicates(columns, listed)
    fields = {column.field for column in columns}
    missing = [name for name in REQUIRED_COLUMNS if name not in fields and name not in optional]
    _refuse_misspelled(columns, missing)
    if missing:
        advice = "".join(f" {_ADVICE[name]}" for name in missing if name in _ADVICE)
        message = (
            f"Missing columns: {', '.join(missing)}. The first line must name the columns. "
            f"It names: {', '.join(listed)}.{advice}"
        )
        raise ApiError(ErrorCode.MISSING_COLUMNS, message, missing=missing, found=listed)
    return columns


def build_warnings(columns: Sequence[CsvColumn], *, keeps_unknown: bool) -> list[Notice]:
    """Builds the warnings about columns that were read by an alias, and about unknown ones.

    Without the second, a client would notice a misspelled column only after its rows are published
    and their idempotency keys are used up.
    """
    warnings = []
    aliases = [
        f"{column.name} was read as {column.field}"
        for column in columns
        if column.field and normalize_name(column.name) != normalize_name(column.field)
    ]
    if aliases:
        message = f"Columns with other names: {_join(aliases)}."
        warnings.append(Notice(code="column_aliases", message=message))
    unknown = [column.name for column in columns if column.name and not column.field]
    if unknown:
        effect = (
            "A value in them makes its row fail, because of strict=true."
            if keeps_unknown
            else "Their cells are ignored. With strict=true, a value in them makes its row fail."
        )
        message = f"Unknown columns: {_join(unknown)}. {effect} Correct or remove these columns."
        warnings.append(Notice(code="unknown_columns", message=message))
    return warnings


def clean_name(name: str) -> str:
    """Returns the name without invisible characters, and with single blanks."""
    spaced = " ".join(name[: 2 * MAX_NAME_LENGTH].split())
    if not spaced.isprintable():
        spaced = "".join(filter(str.isprintable, spaced)).strip()
    return make_printable(spaced, MAX_NAME_LENGTH)


def _refuse_duplicates(columns: Sequence[CsvColumn], listed: Sequence[str]) -> None:
    counts = Counter(
        column.field or column.name.casefold() for column in columns if column.name or column.field
    )
    duplicates = sorted(name for name, count in counts.items() if count > 1)
    if duplicates:
        shown = duplicates[:MAX_LISTED_COLUMNS]
        listed_names = ", ".join(_name_duplicate(name, columns) for name in shown)
        message = f"Columns that appear more than once: {listed_names}. Keep one of each."
        if "run_at" in duplicates:
            message += " If one has the date and another the time, put both into a column run_at."
        raise ApiError(ErrorCode.DUPLICATE_COLUMNS, message, found=list(listed))


def _name_duplicate(name: str, columns: Sequence[CsvColumn]) -> str:
    names = dict.fromkeys(column.name for column in columns if column.field == name)
    return f"{name} (as {' and '.join(names)})" if len(names) > 1 else name


def _refuse_misspelled(columns: Sequence[CsvColumn], missing: Sequence[str]) -> None:
    suggestions = {
        column.name: field
        for column in columns
        if not column.field and (field := suggest_field(column.name, KNOWN_COLUMNS))
    }
    if not suggestions:
        return
    questions = [f"{name} (did you mean {field}?)" for name, field in suggestions.items()]
    others = [name for name in missing if name not in suggestions.values()]
    message = (
        f"Columns that seem misspelled: {', '.join(questions)}. Correct their names, or remove the "
        "columns."
        f"{f' Also missing: {_join(others)}.' if others else ''}"
    )
    listed = [{"column": name, "suggestion": field} for name, field in suggestions.items()]
    raise ApiError(ErrorCode.UNKNOWN_COLUMNS, message, columns=listed)


def _join(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_LISTED_COLUMNS])
