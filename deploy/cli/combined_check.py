"""Combines the dry runs of one file's portions. Does no I/O.

A dry run stores nothing, so a portion does not know the keys of the portions before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deploy.cli.combined_job import (
    TIME_COUNTS,
    AcceptedPortion,
    Job,
    add_counts,
    combine_warnings,
    number_results,
)
from shared.contract.events import ExistingState, Notice, OnExisting, RowStatus
from shared.contract.shared_keys import KeyedContent, warn_of_shared_keys

Result = dict[str, Any]


def combine_checks(
    portions: Sequence[AcceptedPortion],
    name: str | None,
    warnings: Sequence[Notice],
    contents: Sequence[KeyedContent],
    on_existing: OnExisting,
) -> Job:
    """Returns the check of a file that was sent as it is, else one document of all its checks.

    `warnings` are those about the whole file `name`, which no portion has.
    """
    first, last = portions[0].job, portions[-1].job
    if len(portions) == 1 and portions[0].lines is None:
        return first
    results = _repeat_keys(
        (number_results(portion) for portion in portions),
        {row.row_number: row.content for row in contents},
        on_existing,
    )
    statuses = [result["status"] for result in results]
    if len(portions) > 1:
        failed = {row["row_number"] for row in results if row["status"] == RowStatus.FAILED}
        accepted = (row for row in contents if row.row_number not in failed)
        warnings = [*warnings, *warn_of_shared_keys(accepted)]
    return {
        **last,
        "source_filename": name,
        "total_rows": len(results),
        "created_rows": statuses.count(RowStatus.CREATED),
        "existing_rows": statuses.count(RowStatus.EXISTING),
        "failed_rows": statuses.count(RowStatus.FAILED),
        **{name: add_counts(portions, name) for name in TIME_COUNTS},
        "warnings": combine_warnings(portions, warnings),
        "results": results,
    }


def find_repeated_rows(results: Iterable[Mapping[str, Any]]) -> list[int]:
    """Returns the rows whose key an earlier row of the file has, which did not fail."""
    keys: set[str] = set()
    repeated = []
    for result in results:
        if result["status"] != RowStatus.FAILED:
            key = result["idempotency_key"]
            if key in keys:
                repeated.append(result["row_number"])
            keys.add(key)
    return repeated


def _repeat_keys(
    portions: Iterable[Sequence[Result]], contents: Mapping[int, object], on_existing: OnExisting
) -> list[Result]:
    """Returns the results of all portions, as they are after the portions before them."""
    creators: dict[str, Result] = {}
    """The first result of each key that earlier portions create."""
    results: list[Result] = []
    for portion in portions:
        settled = [
            _repeat_key(result, creator, contents, on_existing)
            if result["status"] == RowStatus.CREATED
            and (creator := creators.get(result["idempotency_key"]))
            else result
            for result in portion
        ]
        for result in settled:
            if result["status"] == RowStatus.CREATED:
                creators.setdefault(result["idempotency_key"], result)
        results += settled
    return results


def _repeat_key(
    result: Result, creator: Result, contents: Mapping[int, object], on_existing: OnExisting
) -> Result:
    """Returns the result of a row whose key an earlier portion creates: it is existing."""
    is_scheduled = creator["schedule_id"] is not None
    state = ExistingState.SCHEDULED if is_scheduled else ExistingState.PUBLISHED
    is_updated = is_scheduled and on_existing is OnExisting.UPDATE
    if is_updated and result["schedule_id"] is None:
        state = ExistingState.QUEUED
    same = contents.get(result["row_number"]) == contents.get(creator["row_number"])
    return {
        **result,
        "status": RowStatus.EXISTING,
        "pin_id": creator["pin_id"],
        "schedule_id": creator["schedule_id"],
        "existing_state": state,
        "payload_matches": is_updated or same,
        "differing_fields": None,
        "updated": is_updated or None,
    }
