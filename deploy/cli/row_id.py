"""Identifies a row of an import."""

from typing import NamedTuple
from uuid import UUID


class RowId(NamedTuple):
    job_id: UUID
    row_number: int
