"""Builds the warnings of an import about its valid rows."""

from collections.abc import Iterable, Sequence

from services.ingest.parsing.policy import ReadingPolicy
from services.ingest.parsing.rows import ValidRow
from shared.contract.events import Notice
from shared.contract.shared_keys import KeyedContent, warn_of_shared_keys


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
    return warn_of_shared_keys(
        KeyedContent(row.row_number, row.key, row.fingerprint) for row in rows
    )
