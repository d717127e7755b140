"""Selects one page of an import's results."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple
from uuid import UUID

from pydantic import Field

from shared.contract.events import MAX_ROWS, RowStatus
from shared.http.pagination.cursors import Cursor, cursor_error
from shared.http.pagination.list_query import Page, SortKey, SortOrder
from shared.http.pagination.parameters import PageParameters
from shared.http.row_results import ResultWithNulls

_IN_ROW_ORDER = SortOrder("results.row_number_asc", SortKey("row_number"), descending=False)
MAX_DIGITS = len(str(MAX_ROWS))
_Text = Annotated[str, Field(max_length=255)]


class ResultFilters(PageParameters):
    status: Annotated[RowStatus | None, Field(description="Only rows with this result.")] = None
    error_code: Annotated[
        _Text | None, Field(description="Only rows that failed with this code.")
    ] = None
    q: Annotated[
        _Text | None,
        Field(
            description="Only rows with this text in idempotency_key or error_message. Upper and "
            "lower case are equal, and there are no wildcards."
        ),
    ] = None

    def matches(self, result: ResultWithNulls) -> bool:
        """Returns whether the filters select a result."""
        return (
            (self.status is None or result.status is self.status)
            and (self.error_code is None or result.error_code == self.error_code)
            and (self.q is None or _contains(result, self.q.casefold()))
        )


class ResultPage(NamedTuple):
    results: list[ResultWithNulls]
    page: Page
    """The page's place in the list, without rows."""


def select_page(
    job_id: UUID, results: Sequence[ResultWithNulls], query: ResultFilters
) -> ResultPage:
    """Selects a page. `results` are in row order. Raises ApiError (422) for an invalid cursor."""
    last_row = _decode_cursor(job_id, query)
    matching = [result for result in results if query.matches(result)]
    following = [result for result in matching if result.row_number > last_row][query.offset :]
    selected = following[: query.limit]
    cursor = None
    if len(following) > len(selected):
        cursor = Cursor(_IN_ROW_ORDER.name, str(selected[-1].row_number), job_id)
    return ResultPage(selected, Page([], cursor, len(matching) if query.cursor is None else None))


def _decode_cursor(job_id: UUID, query: ResultFilters) -> int:
    """Returns the number of the row that the page follows, or 0."""
    cursor = query.decode_cursor(_IN_ROW_ORDER)
    if cursor is None:
        return 0
    text = str(cursor.value)
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    if cursor.id != job_id or not is_number:
        raise cursor_error("The cursor is invalid. Use the value from the Link header unchanged.")
    return int(text)


def _contains(result: ResultWithNulls, text: str) -> bool:
    texts = (result.idempotency_key, result.error_message)
    return any(text in value.casefold() for value in texts if value is not None)
