"""Prints the counters, warnings and rows of an import, or of several imports of one file."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from deploy.cli.combined_check import find_repeated_rows
from deploy.cli.combined_job import Job
from deploy.cli.counts import choose_verb, number_of
from deploy.cli.placeholder import PLACEHOLDER
from deploy.cli.tables import console, format_time, print_fields, print_table, printable
from deploy.cli.wording import name_options
from shared.contract.events import EXISTING_NOT_PUBLISHED, NOT_PUBLISHED

Result = Mapping[str, Any]

MAX_ROWS_SHOWN = 20
MAX_NUMBERS_SHOWN = 20
MAX_WARNINGS_SHOWN = 20
MAX_VALUE_CHARACTERS = 40
SHARED_BEGINNING = 20
"""Characters that two values share before their shown parts begin later."""
COUNTERS = ("created", "existing", "failed")
_REPLACE_PLACEHOLDER = (
    "this is the example of pinflow template. Replace it with the address of your image, or remove "
    "the row"
)


def has_unpublished_rows(job: Job) -> bool:
    """Returns whether a row exists already, but its pin will not be published."""
    return any(
        warning["code"] == EXISTING_NOT_PUBLISHED for warning in job["warnings"] or ()
    ) or any(result.get("existing_state") in NOT_PUBLISHED for result in job["results"])


def describe_times(job: Job) -> str | None:
    """Counts the rows that are published now and later. None if Pinflow did not count them."""
    now, later = job.get("publishing_now"), job.get("scheduled_for_later")
    if now is None or later is None:
        return None
    invalid = job["total_rows"] - now - later
    return f"{now} now, {later} scheduled" + (f", {invalid} invalid" if invalid else "")


def print_job(job: Job, *, every_row: bool = False, names_failed_rows: bool = True) -> None:
    """Prints a job's counters, its warnings, and its failed rows or all rows.

    `names_failed_rows`: also says how to get the failed rows as a file.
    """
    out = console()
    counters = ", ".join(f"{job[f'{name}_rows']} {name}" for name in COUNTERS)
    imports = job.get("imports")
    title = f"{len(imports)} imports" if imports else f"Import {job['id']}"
    out.print(
        f"{title}: {job['status']}. {job['processed_rows']} of {job['total_rows']} "
        f"rows have a result: {counters}.",
        highlight=False,
    )
    if undo := job.get("undo"):
        out.print(_describe_undo(undo), highlight=False)
    if imports:
        _print_imports(imports)
    existing = _print_notes(job)
    if job["error_message"]:
        out.print(f"Error: {printable(job['error_message'])}", markup=False)
    if every_row:
        print_results(job["results"], job["id"])
        return
    _print_noted_rows(job, existing)
    if _find_failures(job):
        out.print(
            "The failed rows published nothing and used no idempotency key. Correct them and "
            "import them again.",
            markup=False,
        )
        if names_failed_rows and not imports:
            out.print(
                f"To get them as a file: pinflow imports results {job['id']} --failed failed.csv",
                markup=False,
            )


def print_check(checked: Job) -> None:
    """Prints what an import would do: counters, warnings, and the rows that would fail."""
    out = console()
    results = checked["results"]
    created = [row for row in results if row["status"] == "created"]
    later = sum(row["schedule_id"] is not None for row in created)
    new_keys = {row["idempotency_key"] for row in created}
    again = sum(
        row["status"] == "existing" and row["idempotency_key"] in new_keys for row in results
    )
    taken = checked["existing_rows"] - again
    counts = [
        f"{len(created) - later} would be published now and {later} later",
        f"{taken} {choose_verb(taken, 'exists', 'exist')} already",
        *([f"{again} {choose_verb(again, 'repeats', 'repeat')} an earlier row"] if again else []),
        f"{checked['failed_rows']} would fail",
    ]
    out.print(f"{number_of(checked['total_rows'], 'row')}: {', '.join(counts)}.", markup=False)
    if repeated := find_repeated_rows(results):
        subject = number_of(len(repeated), "row")
        out.print(
            f"{subject} {choose_verb(len(repeated), 'repeats', 'repeat')} the idempotency key of "
            f"an earlier row and would create nothing: {format_rows(repeated)}.",
            markup=False,
        )
    _print_noted_rows(checked, _print_notes(checked))
    if _find_failures(checked):
        out.print("Nothing was imported. Correct the rows and check the file again.", markup=False)


def print_timeline(timeline: Mapping[str, Any]) -> None:
    """Prints the fields of a row's timeline, then its events."""
    print_fields({name: value for name, value in timeline.items() if name != "events"})
    rows = [
        [format_time(event["at"]), event["event"], event["detail"]] for event in timeline["events"]
    ]
    print_table(["at", "event", "detail"], rows)


def format_rows(numbers: Iterable[int]) -> str:
    """Lists row numbers in order, neighbors as a range: `rows 1-3, 7`. Cuts a long list."""
    ranges: list[list[int]] = []
    distinct = sorted(set(numbers))
    for number in distinct:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    listed = ", ".join(texts[:MAX_NUMBERS_SHOWN])
    return f"row{'s' * (len(distinct) > 1)} {listed}" + " …" * (len(texts) > MAX_NUMBERS_SHOWN)


def describe_differences(result: Result) -> str:
    """Lists the fields that differ: `title: stored 'Lamp', sent 'Lampe'`."""
    differences = result.get("differing_fields") or ()
    return "; ".join(_describe_difference(difference) for difference in differences)


def _describe_difference(difference: Mapping[str, Any]) -> str:
    stored, sent = difference["stored"], difference["sent"]
    if stored is None and sent is None:
        return f"{difference['field']} (its values are hidden from this API key)"
    start = 0
    if stored and sent:
        start = next(
            (
                index
                for index, pair in enumerate(zip(stored, sent, strict=False))
                if len(set(pair)) > 1
            ),
            min(len(stored), len(sent)),
        )
    start = start - SHARED_BEGINNING if start > SHARED_BEGINNING else 0
    return f"{difference['field']}: stored {_quote(stored, start)}, sent {_quote(sent, start)}"


def _quote(value: str | None, start: int) -> str:
    if value is None:
        return "nothing"
    shown = value[start : start + MAX_VALUE_CHARACTERS]
    is_cut = start + MAX_VALUE_CHARACTERS < len(value)
    return f"'{'…' if start else ''}{shown}{'…' if is_cut else ''}'"


def _describe_undo(undo: Mapping[str, Any]) -> str:
    """Says that an import was undone, and how far."""
    at, left = format_time(undo["undone_at"]), undo["left_rows"]
    pins = number_of(undo["undone_rows"], "pin")
    if removing := undo["removing_rows"]:
        verb = choose_verb(removing, "is", "are")
        return (
            f"Undo began at {at}: {pins}, of which {removing} {verb} still to be removed from "
            f"Pinterest, {left} left."
        )
    return f"{'Partly undone' if left else 'Undone'} at {at}: {pins} deleted, {left} left."


def _is_check(job: Job) -> bool:
    """Returns whether the document is that of a dry run."""
    return bool(job.get("dry_run"))


def _find_failures(job: Job) -> list[Result]:
    return [result for result in job["results"] if result["status"] == "failed"]


def _print_notes(job: Job) -> list[Result]:
    """Prints the warnings and what is to be known of existing rows. Returns these rows."""
    out = console()
    existing = [result for result in job["results"] if result["status"] == "existing"]
    if states := Counter(filter(None, (row.get("existing_state") for row in existing))):
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        out.print(f"The existing rows are: {counts}.", markup=False)
    if updated := [row["row_number"] for row in existing if row.get("updated")]:
        verb = "would take" if _is_check(job) else "took"
        out.print(
            f"{number_of(len(updated), 'existing row')} {verb} the content of this import: "
            f"{format_rows(updated)}.",
            markup=False,
        )
    _print_warnings(job)
    differing = [result for result in existing if result.get("payload_matches") is False]
    if differing:
        out.print(
            f"Warning: {number_of(len(differing), 'existing row')} "
            f"{choose_verb(len(differing), 'differs', 'differ')} from what was first sent with the "
            f"same idempotency key: {format_rows(row['row_number'] for row in differing)}. "
            "The existing pins are not changed. If such a row is meant as a new pin, give it a "
            "different key.",
            markup=False,
        )
    return existing


def _print_noted_rows(job: Job, existing: Sequence[Result]) -> None:
    """Prints the existing rows that may surprise, and the failed rows."""
    if noted := [row for row in existing if _is_noteworthy(row)]:
        _print_existing(job, noted)
    if failures := _find_failures(job):
        _print_failures(job, failures)


def _is_noteworthy(row: Result) -> bool:
    return row.get("payload_matches") is False or row.get("existing_state") in NOT_PUBLISHED


def _print_imports(imports: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        [
            part["id"],
            f"{part['first_row']}-{part['last_row']}",
            part["status"],
            *(part[f"{name}_rows"] for name in COUNTERS),
        ]
        for part in imports[:MAX_ROWS_SHOWN]
    ]
    print_table(["import", "rows", "status", *COUNTERS], rows)
    if len(imports) > MAX_ROWS_SHOWN:
        console().print(f"… and {len(imports) - MAX_ROWS_SHOWN} more. See all with --json.")


def _print_warnings(job: Job) -> None:
    out = console()
    warnings = job.get("warnings") or ()
    for warning in warnings[:MAX_WARNINGS_SHOWN]:
        numbers = warning.get("row_numbers")
        rows = f" ({format_rows(numbers)})" if numbers else ""
        message = printable(name_options(warning["message"]))
        out.print(f"Warning: {message}{rows}", markup=False)
    if len(warnings) > MAX_WARNINGS_SHOWN:
        out.print(f"… and {len(warnings) - MAX_WARNINGS_SHOWN} more warnings. See all with --json.")


def print_results(results: Sequence[Result], job_id: str) -> None:
    """Prints each row of an import with its ids, and what is to be known of it."""
    header = ["row", "status", "idempotency_key", "pin_id", "schedule_id"]
    _print_rows(
        results,
        header,
        lambda row: [row["row_number"], *(row[name] for name in header[1:])],
        "state, differences and errors",
        lambda row: "; ".join(
            filter(None, (row.get("existing_state"), describe_differences(row), _join_errors(row)))
        ),
    )
    if any(row.get("existing_state") for row in results):
        console().print(
            "A state is that at the time of the import. To see the present one of row N: "
            f"pinflow imports show {job_id} --row N",
            markup=False,
        )


def _print_existing(job: Job, rows: Sequence[Result]) -> None:
    _print_rows(
        rows[:MAX_ROWS_SHOWN],
        ["row", "idempotency_key", "state"],
        lambda row: [row["row_number"], row["idempotency_key"], row.get("existing_state")],
        "differences",
        lambda row: (
            describe_differences(row)
            or ("" if row.get("payload_matches") else "the content differs")
        ),
    )
    _print_rest(job, len(rows))


def _print_failures(job: Job, failures: Sequence[Result]) -> None:
    out = console()
    _print_rows(
        failures[:MAX_ROWS_SHOWN],
        ["row", "idempotency_key", "error_code"],
        lambda row: [row["row_number"], row["idempotency_key"], row["error_code"]],
        "errors",
        _join_errors,
    )
    _print_rest(job, len(failures))
    if job["source_type"] == "csv":
        out.print(
            "Row 1 is the first row below the CSV header. Blank lines are not counted.",
            markup=False,
        )


def _print_rest(job: Job, count: int) -> None:
    if count > MAX_ROWS_SHOWN:
        has_id = "id" in job
        advice = f"pinflow imports show {job['id']} --all" if has_id else "with --json"
        console().print(
            f"… and {count - MAX_ROWS_SHOWN} more. See all rows: {advice}", markup=False
        )


def _print_rows(
    rows: Sequence[Result],
    header: Sequence[str],
    read_cells: Callable[[Result], list[Any]],
    last_header: str,
    read_last_cell: Callable[[Result], str],
) -> None:
    """Prints one line per row. The first column is the row number, the second the file's line."""
    has_lines = any(row.get("line") for row in rows)
    table = []
    for row in rows:
        number, *cells = read_cells(row)
        table.append(
            [number, *([row.get("line")] if has_lines else []), *cells, read_last_cell(row)]
        )
    print_table([header[0], *(["line"] if has_lines else []), *header[1:], last_header], table)


def _join_errors(result: Result) -> str:
    errors = [
        ": ".join(filter(None, (error["field"], _describe_fault(error))))
        for error in result["errors"]
    ]
    return "; ".join(errors) or name_options(result["error_message"] or "")


def _describe_fault(error: Mapping[str, Any]) -> str:
    if error.get("value") == PLACEHOLDER:
        return _REPLACE_PLACEHOLDER
    return name_options(error["message"])
