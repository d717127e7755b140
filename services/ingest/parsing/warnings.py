"""Builds the warnings of an import about its valid rows."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from services.ingest.parsing.policy import ReadingPolicy
from services.ingest.parsing.rows import ValidRow
from shared.contract.events import Notice
from shared.contract.pins import make_printable

MAX_LISTED_KEYS = 20
MAX_LISTED_ROWS = 10
MAX_SHOWN_KEY = 50
_SCIENTIFIC_NOTATION = re.compile(r"\d[.,]\d+E\+?\d+$", re.IGNORECASE).search


def count_publishing_now(rows: Sequence[ValidRow], policy: ReadingPolicy) -> int:
    """Counts the rows that are published at once."""
    timed = [row for row in rows if row.run_at is not None]
    return len(rows) - len(timed) + sum(policy.is_past(row.run_at) for row in timed)


def build_warnings(rows: Sequence[ValidRow], policy: ReadingPolicy) -> list[Notice]:
    """Builds the warnings about times that have passed, and about keys that differ in content."""
    return [*_warn_of_past_times(rows, policy), *_warn_of_shared_keys(rows)]


def _warn_of_past_times(rows: Iterable[ValidRow], policy: ReadingPolicy) -> list[Notice]:
    past = [row.row_number for row in rows if row.run_at is not None and policy.is_past(row.run_at)]
    if not past:
        return []
    message = (
        f"{'1 row has' if len(past) == 1 else f'{len(past)} rows have'} a run_at that has passed. "
        "Such rows are published at once, unless they exist already. With past_run_at=fail, or "
        "pinflow import --past fail, they fail instead."
    )
    return [Notice(code="past_run_at", message=message, row_numbers=past)]


def _warn_of_shared_keys(rows: Sequence[ValidRow]) -> list[Notice]:
    if len({row.key for row in rows}) == len(rows):
        return []
    by_key: dict[str, list[ValidRow]] = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    differing = {
        key: same
        for key, same in by_key.items()
        if any(row.fingerprint != same[0].fingerprint for row in same)
    }
    if not differing:
        return []
    listed = "; ".join(
        f"{make_printable(key, MAX_SHOWN_KEY)} in rows {_list_numbers(same)}"
        for key, same in list(differing.items())[:MAX_LISTED_KEYS]
    )
    advice = (
        "A spreadsheet has shortened these numbers: format the column as text, enter the keys "
        "again and save the file again."
        if any(map(_SCIENTIFIC_NOTATION, differing))
        else "Give each pin its own idempotency_key."
    )
    message = (
        f"Rows share an idempotency_key but differ in content: {listed}. Only the first row of "
        f"each key is published. {advice}"
    )
    numbers = sorted(row.row_number for same in differing.values() for row in same)
    return [Notice(code="duplicate_keys", message=message, row_numbers=numbers)]


def _list_numbers(rows: Sequence[ValidRow]) -> str:
    numbers = ", ".join(str(row.row_number) for row in rows[:MAX_LISTED_ROWS])
    return f"{numbers} …" if len(rows) > MAX_LISTED_ROWS else numbers
