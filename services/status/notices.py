"""Builds the warnings of a job: those of its import, and one about existing rows. No I/O."""

from typing import Any

from msgspec.structs import asdict

from shared.contract.not_published import build_existing_not_published
from shared.postgres.row import Row


def build_notices(job: Row) -> list[dict[str, Any]]:
    """Builds the warnings that an answer shows.

    The warning about existing rows is built on each reading, from the rows that the fold has
    marked. So its text may improve, and it grows while rows settle.
    """
    # Earlier versions stored warnings without row numbers
    notices = [{**notice, "row_numbers": notice.get("row_numbers", [])} for notice in _stored(job)]
    bits = job["not_published"] or ""
    row_numbers = [number for number, bit in enumerate(bits) if bit == "1"]
    if row_numbers:
        notices.append(asdict(build_existing_not_published(row_numbers)))
    return notices


def _stored(job: Row) -> list[dict[str, Any]]:
    return job["warnings"] or []
