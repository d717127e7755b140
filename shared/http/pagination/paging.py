"""HTTP's side of a list: which page is asked for, and what its headers say."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import BaseModel, Field

from shared.http.errors import OVERLOADED
from shared.http.pagination.cursors import (
    MOST_CHARACTERS,
    OPAQUE,
    Cursor,
    next_link,
    read_cursor,
    refused_cursor,
)
from shared.http.pagination.search import Order, Page

PAGED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {
        "headers": {
            "X-Total-Count": {
                "description": (
                    "How many there are in all pages. Left out where that would take too long to "
                    "count, and of pages by cursor."
                ),
                "schema": {"type": "integer", "minimum": 0},
            },
            "Link": {
                "description": (
                    '`<…&cursor=…>; rel="next"` (RFC 8288) when there are more: the next page, '
                    "whatever comes in meanwhile."
                ),
                "schema": {"type": "string"},
            },
        }
    },
    **OVERLOADED,
}
"""What OpenAPI says of an answer that is a page."""


class Paging(BaseModel):
    """Query parameters of every list."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    offset: Annotated[int, Field(ge=0, le=1_000_000, description="Not together with a cursor.")] = 0
    cursor: (
        Annotated[
            str,
            Field(
                max_length=MOST_CHARACTERS,
                pattern=OPAQUE,
                description="Of the Link header: goes on where that page ended.",
            ),
        ]
        | None
    ) = None

    def after(self, order: Order) -> Cursor | None:
        """Where the page begins, if a cursor says so. Raises ApiError (422)."""
        if self.cursor is None:
            return None
        if self.offset:
            raise refused_cursor("goes without an offset")
        return read_cursor(self.cursor, order.name, of_time=order.key.is_time)


def describe_page(request: Request, response: Response, asked: Paging, page: Page) -> None:
    """Put the page's headers into the response."""
    if page.total is not None:
        response.headers["X-Total-Count"] = str(page.total)
    if page.next is not None:
        query = {
            name: value
            for name, value in request.query_params.items()
            if name in type(asked).model_fields
        }
        response.headers["Link"] = next_link(request.url.path, query, page.next)
