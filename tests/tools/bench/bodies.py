"""Imports of 500 rows as bytes, made once; each copy gets a mark of its own by one replacement: the
generator must stay cheap.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

import orjson

from deploy.administration import NewWorkspace
from shared.contract.events import MAX_ROWS
from tests.acceptance.rows import rows_for

MARK_PLACEHOLDER = b"0123456789abcdef"
"""Stands in prepared bytes where a mark of their own goes."""
BOUNDARY = b"pinflow-bench-file"
MIXED_ROW_INTERVAL = 10
"""Of the mixed rows one in so many fails, and another repeats a key that stands already."""


class Outcomes(NamedTuple):
    created: int
    existing: int = 0
    failed: int = 0


@dataclass(frozen=True)
class PreparedImport:
    """A prepared import, and what must become of its rows."""

    template: bytes
    outcomes: Outcomes
    path: str = "/v1/pins/imports/json"
    content_type: str = "application/json"

    def build_copy(self) -> bytes:
        """Rows that nobody has sent before, but for those that are meant to exist."""
        return insert_mark(self.template, new_mark())


def new_mark() -> str:
    return uuid4().hex[: len(MARK_PLACEHOLDER)]


def insert_mark(template: bytes, mark: str) -> bytes:
    return template.replace(MARK_PLACEHOLDER, mark.encode())


def build_realistic_rows(workspace: NewWorkspace) -> list[dict[str, Any]]:
    """Each with a product and a picture of its own, new with each import: what could be cached or
    compressed away must not be.
    """
    tag = MARK_PLACEHOLDER.decode()
    return [
        {
            **row,
            "link_url": f"https://shop.example/lamps/{tag}-{number}?season=autumn",
            "image_url": f"https://cdn.example/{tag}/{number}.jpg",
        }
        for number, row in enumerate(rows_for(workspace, MAX_ROWS, prefix=tag), 1)
    ]


def build_json_import(
    rows: Sequence[dict[str, Any]], outcomes: Outcomes | None = None
) -> PreparedImport:
    return PreparedImport(orjson.dumps(rows), outcomes or Outcomes(created=len(rows)))


def build_csv_import(
    rows: Sequence[dict[str, Any]], outcomes: Outcomes | None = None
) -> PreparedImport:
    """As a browser uploads the file: the only field of a form."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    head = (
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="campaign.csv"\r\n'
        b"Content-Type: text/csv\r\n\r\n" % BOUNDARY
    )
    form = head + text.getvalue().encode() + b"\r\n--%b--\r\n" % BOUNDARY
    form_type = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    return PreparedImport(
        form, outcomes or Outcomes(created=len(rows)), "/v1/pins/imports/csv", form_type
    )


def build_mixed_rows(workspace: NewWorkspace) -> tuple[list[dict[str, Any]], Outcomes]:
    """A tenth fails, half of it at ingest (no title) and half at the publisher (no such board); a
    tenth is there (`standing_rows`).
    """
    rows = build_realistic_rows(workspace)
    for position, row in enumerate(rows):
        if position % (2 * MIXED_ROW_INTERVAL) == 0:
            row["title"] = ""
        elif position % MIXED_ROW_INTERVAL == 0:
            row["board_id"] = "no-such-board"
        elif position % MIXED_ROW_INTERVAL == 1:
            row.update(_build_existing_fields(position))
    share = len(rows) // MIXED_ROW_INTERVAL
    return rows, Outcomes(created=len(rows) - 2 * share, existing=share, failed=share)


def build_existing_rows(workspace: NewWorkspace) -> list[dict[str, Any]]:
    """To be imported before: those rows of the mixed ones that are to exist by then."""
    rows = build_realistic_rows(workspace)
    return [
        row | _build_existing_fields(position)
        for position, row in enumerate(rows)
        if position % MIXED_ROW_INTERVAL == 1
    ]


def _build_existing_fields(position: int) -> dict[str, str]:
    return {
        "idempotency_key": f"stands-{position}",
        "link_url": f"https://shop.example/lamps/stands-{position}",
        "image_url": f"https://cdn.example/stands/{position}.jpg",
    }
