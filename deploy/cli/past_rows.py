"""Finds the rows that an import would publish at once because their time has passed."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from shared.contract.run_at import parse_run_at


class PastRows(NamedTuple):
    numbers: list[int]
    """Row numbers, from 1."""
    oldest: datetime


def find_past_rows(
    run_at: Sequence[object], zone: ZoneInfo | None, now: datetime
) -> PastRows | None:
    """Finds the rows whose `run_at` has passed. Returns None if there are none.

    Leaves out times that can't be read: their rows fail.
    """
    past: dict[int, datetime] = {}
    for number, value in enumerate(run_at, 1):
        if isinstance(value, str) and value.strip():
            try:
                time = parse_run_at(value.strip(), zone)
            except ValueError:
                continue
            if time <= now:
                past[number] = time
    return PastRows(list(past), min(past.values())) if past else None
