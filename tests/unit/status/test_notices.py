"""The warnings of a job."""

from typing import Any

import pytest

from services.status.folding import tally
from services.status.notices import build_notices
from shared.contract.events import ExistingState, RowResult, RowStatus
from tests.support.factories import created_result

NOTHING_SETTLED = "0" * 501


def existing(number: int, state: ExistingState | None) -> RowResult:
    return RowResult(row_number=number, status=RowStatus.EXISTING, existing_state=state)


def job(**fields: Any) -> dict[str, Any]:
    return {"warnings": None, "not_published": None, **fields}


def test_rows_whose_pin_was_canceled_deleted_or_failed_are_named() -> None:
    results = [existing(number, state) for number, state in enumerate(ExistingState, 1)]
    added = tally(NOTHING_SETTLED, [*results, existing(499, None), created_result(500)])
    (notice,) = build_notices(job(not_published=added.not_published))
    states = list(ExistingState)
    assert notice["code"] == "existing_not_published"
    assert [states[number - 1] for number in notice["row_numbers"]] == [
        "failed",
        "canceled",
        "deleted",
    ]
    assert notice["message"].startswith("Nothing will be published for 3 rows: ")
    assert "new idempotency key" in notice["message"]
    for advice in ("pinflow import --on-existing revive", "on_existing=update"):
        assert advice in notice["message"]


def test_only_rows_that_settle_now_are_marked() -> None:
    """The first result of a row counts, for the warning as for the counters."""
    settled = tally(NOTHING_SETTLED, [existing(1, ExistingState.PUBLISHED)]).settled
    late = [existing(1, ExistingState.DELETED), existing(500, ExistingState.DELETED)]
    added = tally(settled, [*late, existing(500, ExistingState.PUBLISHED)])
    assert added.not_published == "0" * 500 + "1"
    again = tally(added.settled, late)
    assert again.not_published is None


@pytest.mark.parametrize("state", ["published", "scheduled", "queued"])
def test_a_job_whose_existing_pins_are_or_will_be_published_has_no_warning(state: str) -> None:
    added = tally(NOTHING_SETTLED, [existing(1, ExistingState(state))])
    assert added.not_published is None
    assert build_notices(job(not_published=added.not_published)) == []


def test_warnings_of_the_import_come_first_and_old_ones_get_row_numbers() -> None:
    stored = [{"code": "a", "message": "m"}, {"code": "b", "message": "m", "row_numbers": [7]}]
    notices = build_notices(job(warnings=stored, not_published="01"))
    assert [(notice["code"], notice["row_numbers"]) for notice in notices] == [
        ("a", []),
        ("b", [7]),
        ("existing_not_published", [1]),
    ]
    assert "1 row:" in notices[2]["message"]
