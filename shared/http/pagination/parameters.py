"""Query parameters and response headers of every list."""

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Request, Response
from pydantic import BaseModel, Field

from shared.http.errors import OVERLOADED
from shared.http.pagination.cursors import (
    CURSOR_PATTERN,
    MAX_CURSOR_CHARACTERS,
    Cursor,
    cursor_error,
    next_link,
    read_cursor,
)
from shared.http.pagination.list_query import Page, SortOrder

MAX_PAGE_ITEMS = 200
LINK: dict[str, Any] = {
    "description": (
        'The next page, if there is one: `<…&cursor=…>; rel="next"` (RFC 8288). New '
        "items don't shift it."
    ),
    "schema": {"type": "string"},
}
"""Describes the header Link of a list for OpenAPI."""
PAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {
        "headers": {
            "X-Total-Count": {
                "description": (
                    "The number of items in all pages. Absent if counting would take too long, "
                    "and on pages read with a cursor."
                ),
                "schema": {"type": "integer", "minimum": 0},
            },
            "Link": LINK,
        }
    },
    **OVERLOADED,
}
"""Describes a list's responses for OpenAPI."""


class PageParameters(BaseModel):
    """Query parameters of every list."""

    limit: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_PAGE_ITEMS,
            description=f"The most items of one page: 1 to {MAX_PAGE_ITEMS}.",
        ),
    ] = 50
    offset: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Items to skip from the list's start. Can't be combined with a cursor.",
        ),
    ] = 0
    cursor: Annotated[
        Annotated[str, Field(max_length=MAX_CURSOR_CHARACTERS, pattern=CURSOR_PATTERN)] | None,
        Field(description="The cursor from a page's Link header: continues after that page."),
    ] = None

    def decode_cursor(self, order: SortOrder) -> Cursor | None:
        """Returns the cursor that the page starts after, if any. Raises ApiError (422)."""
        if self.cursor is None:
            return None
        if self.offset:
            raise cursor_error(
                "The cursor can't be combined with an offset. Send only one of them."
            )
        return read_cursor(self.cursor, order.name, is_time=order.key.is_time)


def set_page_headers(
    request: Request, response: Response, parameters: PageParameters, page: Page
) -> None:
    """Sets the headers X-Total-Count and Link."""
    if page.total is not None:
        response.headers["X-Total-Count"] = str(page.total)
    if page.next_cursor is not None:
        query = {
            name: value
            for name, value in request.query_params.items()
            if name in type(parameters).model_fields
        }
        # An id in the path may have digits of other alphabets, which no header can have
        path = quote(request.url.path)
        response.headers["Link"] = next_link(path, query, page.next_cursor)
