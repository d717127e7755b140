"""Prepares the bytes of imports of 500 rows once.

A copy gets its own mark by one replacement, which keeps the load generator cheap.
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
"""Placeholder in a prepared import. `insert_mark` replaces it with the copy's own mark."""
BOUNDARY = b"pinflow-bench-file"
MIXED_ROW_INTERVAL = 10
"""Among 10 mixed rows, one fails and one repeats an existing key."""


class Outcomes(NamedTuple):
    """Number of rows by outcome."""

    created: int
    existing: int = 0
    failed: int = 0


@dataclass(frozen=True)
class PreparedImport:
    """A prepared import and the expected outcomes of its rows."""

    template: bytes
    expected_outcomes: Outcomes
    path: str = "/v1/pins/imports/json"
    content_type: str = "application/json"

    def build_copy(self) -> bytes:
        """Returns a body with new rows. Only rows that are meant to exist already are repeated."""
        return insert_mark(self.template, new_mark())


def new_mark() -> str:
    """Creates a random mark, which makes the keys of an import unique."""
    return uuid4().hex[: len(MARK_PLACEHOLDER)]


def insert_mark(template: bytes, mark: str) -> bytes:
    return template.replace(MARK_PLACEHOLDER, mark.encode())


def build_realistic_rows(workspace: NewWorkspace) -> list[dict[str, Any]]:
    """Builds rows with a unique product and picture each, new in every import.

    They keep caches and compression from making the load easier than real rows.
    """
    mark = MARK_PLACEHOLDER.decode()
    return [
        {
            **row,
            "link_url": f"https://shop.example/lamps/{mark}-{number}?season=autumn",
            "image_url": f"https://cdn.example/{mark}/{number}.jpg",
        }
        for number, row in enumerate(rows_for(workspace, MAX_ROWS, prefix=mark), 1)
    ]


def build_json_import(
    rows: Sequence[dict[str, Any]], expected_outcomes: Outcomes | None = None
) -> PreparedImport:
    return PreparedImport(orjson.dumps(rows), expected_outcomes or Outcomes(created=len(rows)))


def build_csv_import(
    rows: Sequence[dict[str, Any]], expected_outcomes: Outcomes | None = None
) -> PreparedImport:
    """Builds a CSV file as a browser uploads it: the only field of a form."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    form_start = (
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="campaign.csv"\r\n'
        b"Content-Type: text/csv\r\n\r\n" % BOUNDARY
    )
    form = form_start + text.getvalue().encode() + b"\r\n--%b--\r\n" % BOUNDARY
    form_type = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    return PreparedImport(
        form, expected_outcomes or Outcomes(created=len(rows)), "/v1/pins/imports/csv", form_type
    )


def build_mixed_rows(workspace: NewWorkspace) -> tuple[list[dict[str, Any]], Outcomes]:
    """Builds rows of which a tenth fails and a tenth exists (`build_existing_rows`).

    Half of the failures are found by ingest (no title), half by the publisher (unknown board).
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
    """Builds the rows to import first, so that they exist when the mixed rows arrive."""
    rows = build_realistic_rows(workspace)
    return [
        row | _build_existing_fields(position)
        for position, row in enumerate(rows)
        if position % MIXED_ROW_INTERVAL == 1
    ]


def _build_existing_fields(position: int) -> dict[str, str]:
    return {
        "idempotency_key": f"existing-{position}",
        "link_url": f"https://shop.example/lamps/existing-{position}",
        "image_url": f"https://cdn.example/existing/{position}.jpg",
    }
