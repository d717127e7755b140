"""Combines the imports of one file into a report with the file's own row numbers. Does no I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from shared.contract.events import JobStatus, Notice, RowStatus
from shared.contract.shared_keys import SHARED_KEYS, KeyedContent, warn_of_shared_keys

Job = dict[str, Any]
"""A job as the API shows it."""

TIME_COUNTS = ("publishing_now", "scheduled_for_later")
"""Fields of a job that count its valid rows by their time."""
_COUNTERS = ("total_rows", "processed_rows", "created_rows", "existing_rows", "failed_rows")
_LISTED_ROWS = re.compile(r"(?<= in rows )\d+(?:, \d+)*").sub
"""Finds the row numbers in the text of a warning about shared keys."""


@dataclass(slots=True)
class AcceptedPortion:
    """An accepted or checked import of the file's rows `first_row` to `last_row`, from 1."""

    first_row: int
    last_row: int
    job: Job
    lines: list[int] | None = None
    """The line of each row in the whole file, if the import got only a part of a CSV file."""

    @property
    def job_id(self) -> str:
        return str(self.job["id"])

    @property
    def has_ended(self) -> bool:
        return self.job["completed_at"] is not None


def combine(
    portions: Sequence[AcceptedPortion],
    warnings: Sequence[Notice] = (),
    contents: Iterable[KeyedContent] = (),
) -> Job:
    """Returns the job of a file that was sent as it is, else one document of all its imports.

    `warnings` are those about the whole file, which no import has. `contents` are of the whole
    file, to find equal keys in different imports.
    """
    if len(portions) == 1 and portions[0].lines is None:
        return portions[0].job
    results = [result for portion in portions for result in number_results(portion)]
    failed = {result["row_number"] for result in results if result["status"] == RowStatus.FAILED}
    if len(portions) > 1:
        accepted = (row for row in contents if row.row_number not in failed)
        warnings = [*warnings, *warn_of_shared_keys(accepted)]
    return {
        "status": _combine_statuses([portion.job["status"] for portion in portions]),
        **{name: sum(portion.job[name] for portion in portions) for name in _COUNTERS},
        **{name: add_counts(portions, name) for name in TIME_COUNTS},
        "source_type": portions[0].job["source_type"],
        "error_message": next(filter(None, (part.job["error_message"] for part in portions)), None),
        "warnings": combine_warnings(portions, warnings),
        "imports": [_summarize(portion) for portion in portions],
        "results": results,
    }


def _combine_statuses(statuses: Sequence[str]) -> str:
    if len(set(statuses)) == 1:
        return statuses[0]
    ended = {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS, JobStatus.FAILED}
    if set(statuses) <= ended:
        return JobStatus.COMPLETED_WITH_ERRORS
    return JobStatus.PROCESSING


def add_counts(portions: Sequence[AcceptedPortion], name: str) -> int | None:
    """Adds up a counter. Returns None if a portion does not have it."""
    counts = [portion.job.get(name) for portion in portions]
    return None if None in counts else sum(count or 0 for count in counts)


def _summarize(portion: AcceptedPortion) -> dict[str, Any]:
    names = ("id", "status", *_COUNTERS)
    return {
        "first_row": portion.first_row,
        "last_row": portion.last_row,
        **{name: portion.job[name] for name in names},
    }


def number_results(portion: AcceptedPortion) -> list[dict[str, Any]]:
    """Returns the results with the row numbers and lines of the whole file, and their import."""
    before = portion.first_row - 1
    return [
        {
            **result,
            "row_number": before + result["row_number"],
            "line": portion.lines[result["row_number"] - 1] if portion.lines else None,
            **({"job_id": portion.job["id"]} if "id" in portion.job else {}),
        }
        for result in portion.job["results"]
    ]


def combine_warnings(
    portions: Sequence[AcceptedPortion], file_warnings: Sequence[Notice]
) -> list[Mapping[str, Any]]:
    """Returns each warning once, with the numbers of all rows that it concerns."""
    combined: dict[tuple[str, str], dict[str, Any]] = {
        (notice.code, notice.message): {
            "code": notice.code,
            "message": notice.message,
            "row_numbers": list(notice.row_numbers),
        }
        for notice in file_warnings
    }
    in_shared_keys = {
        number
        for notice in file_warnings
        if notice.code == SHARED_KEYS
        for number in notice.row_numbers
    }
    for portion in portions:
        before = portion.first_row - 1
        for warning in portion.job["warnings"] or ():
            code, message = warning["code"], warning["message"]
            numbers = [before + number for number in warning.get("row_numbers") or ()]
            if code == SHARED_KEYS:
                if in_shared_keys.issuperset(numbers):
                    continue  # the warning about the whole file has these rows
                message = _LISTED_ROWS(partial(_shift_numbers, before), message)
            same = combined.setdefault(
                (code, message), {"code": code, "message": message, "row_numbers": []}
            )
            same["row_numbers"] += numbers
    for warning in combined.values():
        warning["row_numbers"] = sorted(set(warning["row_numbers"]))
    return list(combined.values())


def _shift_numbers(before: int, listed: re.Match[str]) -> str:
    return ", ".join(str(before + int(number)) for number in listed[0].split(", "))
