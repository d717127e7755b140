"""Parses an import's rows for a peer.

Pinflow's own model validates them in one call, as a peer's developers would write it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import orjson
from pydantic import FailFast, TypeAdapter, ValidationError

from services.ingest.parsing.rows import require_rows
from services.publisher.ids import compute_pin_id
from shared.contract.events import MAX_KEY_LENGTH, RowResult, RowStatus
from shared.contract.pins import PinSubmission, describe_first_fault, make_printable, read_faults
from shared.contract.strict_json import parse_json
from tests.tools.bench.peers.store import COLUMNS

CONTENT = tuple(name for name, _ in COLUMNS[COLUMNS.index(("account_id", "uuid")) :])
"""Columns with a row's own content. The others come from its job or are computed."""
_read_content = attrgetter(*CONTENT)
_TEXT_PARSERS: dict[str, Callable[[str], Any]] = {
    "uuid": UUID,
    "timestamptz": datetime.fromisoformat,
}
_PARSERS = {
    CONTENT.index(name): _TEXT_PARSERS[kind]
    for name, kind in COLUMNS
    if name in CONTENT and kind in _TEXT_PARSERS
}

QueuedRow: TypeAlias = Sequence[Any]
"""A row as JSON carries it: its number, then the values of CONTENT."""


_ROWS: TypeAdapter[list[PinSubmission]] = TypeAdapter(Annotated[list[PinSubmission], FailFast()])


@dataclass(frozen=True)
class ParsedImport:
    """Valid rows with their numbers, which start at 1, and the number of all rows."""

    valid: list[tuple[int, PinSubmission]]
    total: int
    failures: list[RowResult] = field(default_factory=list)
    """Results of the rows that failed validation. Only the equal-work peers store them."""

    @property
    def failed(self) -> int:
        return self.total - len(self.valid)

    def to_queued(self) -> list[QueuedRow]:
        """Returns the valid rows in the form in which they go through a queue."""
        return [(number, *_read_content(pin)) for number, pin in self.valid]


def parse(body: bytes) -> ParsedImport:
    """Parses a body and validates its rows. Raises ApiError."""
    raw = require_rows(parse_json(body))
    try:
        return ParsedImport(list(enumerate(_ROWS.validate_python(raw), 1)), len(raw))
    except ValidationError:
        return _parse_each(raw)


def _parse_each(raw: Sequence[Any]) -> ParsedImport:
    valid, failures = [], []
    for number, row in enumerate(raw, 1):
        try:
            valid.append((number, PinSubmission.model_validate(row)))
        except ValidationError as error:
            failures.append(_build_failure(number, row, error))
    return ParsedImport(valid, len(raw), failures)


def _build_failure(number: int, row: dict[str, Any], error: ValidationError) -> RowResult:
    faults, key = read_faults(error), row.get("idempotency_key")
    code, message = describe_first_fault(faults)
    return RowResult(
        row_number=number,
        status=RowStatus.FAILED,
        idempotency_key=make_printable(key, MAX_KEY_LENGTH) if isinstance(key, str) else None,
        error_code=code,
        error_message=message,
        errors=faults,
    )


def parse_queued(rows: Iterable[QueuedRow]) -> list[QueuedRow]:
    """Parses ids and times of rows that went through a queue: JSON has them as text."""
    return [
        (
            number,
            *(
                _PARSERS[index](value) if value is not None and index in _PARSERS else value
                for index, value in enumerate(content)
            ),
        )
        for number, *content in rows
    ]


def build_values(
    workspace_id: UUID, job_id: UUID, accepted_at: datetime, rows: Iterable[QueuedRow]
) -> list[tuple[Any, ...]]:
    """Builds the values of the table's columns, in the order of COLUMNS.

    The pin id replaces the content's fingerprint, which no peer stores. The equal-work peers
    compare the fields.
    """
    key, terms = CONTENT.index("idempotency_key"), CONTENT.index("related_terms")
    column_values = []
    for number, *content in rows:
        pin_id = compute_pin_id(workspace_id, content[key])
        if content[terms] is not None:
            content[terms] = orjson.dumps(content[terms]).decode()
        column_values.append((pin_id, workspace_id, pin_id, job_id, number, accepted_at, *content))
    return column_values
