"""Identifies the row of a `RowAccepted` record that is otherwise unreadable."""

from typing import Annotated, NamedTuple
from uuid import UUID

import orjson
from pydantic import Field, TypeAdapter

from shared.contract.events import MAX_ROWS


class RowIdentity(NamedTuple):
    job_id: UUID
    workspace_id: UUID
    row_number: Annotated[int, Field(ge=1, le=MAX_ROWS)]


_identity = TypeAdapter(RowIdentity)


def row_identity(value: bytes | None) -> RowIdentity | None:
    """Reads job, workspace and row number of a record, or returns None if one is missing."""
    try:
        document = orjson.loads(value or b"")
        return _identity.validate_python(
            [document["job_id"], document["workspace_id"], document["row_number"]]
        )
    except (ValueError, KeyError, TypeError):  # ValidationError and JSONDecodeError are ValueErrors
        return None
