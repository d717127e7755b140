"""Checks that a peer stored exactly the rows that it was sent, and counted each."""

from collections.abc import Mapping

MAX_NAMED_IMPORTS = 3


def find_faults(sent: Mapping[str, int], stored: Mapping[str, int], counted: int) -> list[str]:
    """Describes every difference. Returns an empty list if there is none.

    `sent` and `stored` are numbers of rows by the mark of their import; `counted` is the total of
    the jobs' counters.
    """
    lost = {
        mark: rows - stored.get(mark, 0)
        for mark, rows in sent.items()
        if stored.get(mark, 0) < rows
    }
    extra = {
        mark: rows - sent.get(mark, 0) for mark, rows in stored.items() if rows > sent.get(mark, 0)
    }
    faults = []
    if lost:
        faults.append(
            f"{sum(lost.values())} rows lost, in {len(lost)} imports ({_format_marks(lost)})"
        )
    if extra:
        faults.append(
            f"{sum(extra.values())} rows that nobody sent, "
            f"in {len(extra)} imports ({_format_marks(extra)})"
        )
    if counted != (total := sum(sent.values())):
        faults.append(f"the jobs count {counted} rows, but {total} were sent")
    return faults


def _format_marks(marks: Mapping[str, int]) -> str:
    return ", ".join(
        [*list(marks)[:MAX_NAMED_IMPORTS], *(["…"] if len(marks) > MAX_NAMED_IMPORTS else [])]
    )
