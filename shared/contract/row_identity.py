"""Identifies the row of a `RowAccepted` record that is otherwise unreadable."""

from typing import Annotated, NamedTuple
from uuid import UUID

import orjson
from pydantic import Field, TypeAdapter

from shared.contract.events import MAX_ROWS


class UnreadableRow(NamedTuple):
    """Identifies a row whose other fields cannot be read. Its result is `failed`."""

    job_id: UUID
    workspace_id: UUID
    row_number: Annotated[int, Field(ge=1, le=MAX_ROWS)]


_unreadable_row = TypeAdapter(UnreadableRow)


def identify_row(value: bytes | None) -> UnreadableRow | None:
    """Reads job, workspace and row number from a record. None if one is missing or invalid."""
    try:
        document = orjson.loads(value or b"")
        return _unreadable_row.validate_python(
            [document["job_id"], document["workspace_id"], document["row_number"]]
        )
    except (ValueError, KeyError, TypeError):  # ValidationError and JSONDecodeError are ValueErrors
        return None
