"""The rule for rows whose idempotency key has a pin that will not be published."""

from collections.abc import Iterable

from shared.contract.events import EXISTING_NOT_PUBLISHED, NOT_PUBLISHED, Notice, RowResult


def find_not_published(results: Iterable[RowResult]) -> list[int]:
    """Returns the numbers of the rows for which nothing will be published."""
    return [result.row_number for result in results if result.existing_state in NOT_PUBLISHED]


def build_existing_not_published(row_numbers: list[int]) -> Notice:
    """Builds the warning about these rows, at least one."""
    count = len(row_numbers)
    rows = "1 row" if count == 1 else f"{count} rows"
    message = (
        f"Nothing will be published for {rows}: the pin that has the idempotency key was canceled "
        "or deleted, or it failed. existing_state of each result says which. To publish canceled "
        "and deleted ones anew, import the rows with on_existing=revive (pinflow import "
        "--on-existing revive); to publish failed ones, with on_existing=update. Or give the rows "
        "new idempotency keys. If the pin belongs to another account than the row, only that helps."
    )
    return Notice(code=EXISTING_NOT_PUBLISHED, message=message, row_numbers=row_numbers)
