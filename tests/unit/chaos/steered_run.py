"""Builds a consistent campaign: checked, canceled, retried, changed, undone and imported again."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.publisher.ids import compute_generation_id
from shared.contract.events import OnExisting
from tests.tools.chaos.final_state import FinalState, Pin
from tests.tools.chaos.history import (
    Campaign,
    CancelAnswer,
    CancelStep,
    Channel,
    Counters,
    DryRunStep,
    Expected,
    History,
    ImportStep,
    RaceStep,
    RequestOutcome,
    Result,
    Row,
    SteeredRow,
    Submission,
    Timing,
    TouchKind,
    TouchStep,
    UndoAnswer,
    UndoStep,
)
from tests.unit.chaos.scenarios import Scenario, put_job, put_pin

Fields = dict[str, Any]
WORKSPACE = UUID("0b6f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01")
NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
FIRST, CANCELED, CHILD, AGAIN, REVIVED, UPDATED = (
    f"job-{name}" for name in ("first", "canceled", "child", "again", "revived", "updated")
)
FIRST_STEP, UNDO_STEP = 1, 4
"""Positions in the campaign's steps."""


def pin_id(key: str, generation: int = 0) -> str:
    return str(compute_generation_id(WORKSPACE, key, generation))


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def sent(
    key: str,
    title: str,
    timing: Timing = Timing.NOW,
    expected: Expected = Expected.PUBLISHED,
    *,
    is_shared: bool = False,
) -> SteeredRow:
    return SteeredRow(key, expected, title, timing, is_shared)


def created(number: int, key: str, generation: int = 0, *, is_schedule: bool = False) -> Result:
    pin = pin_id(key, generation)
    return Result(number, "created", pin, key, None, is_schedule=is_schedule)


def existing(
    number: int, key: str, generation: int = 0, *, state: str = "published", updated: bool = False
) -> Result:
    pin = pin_id(key, generation)
    return Result(number, "existing", pin, key, None, existing_state=state, updated=updated)


def failed(number: int, key: str, code: str) -> Result:
    return Result(number, "failed", None, key, code)


def stored(
    key: str, title: str, job_id: str, row_number: int, generation: int = 0, **fields: Any
) -> Pin:
    values: Fields = {"state": "published", "scheduled": False} | fields
    return Pin(
        pin_id(key, generation),
        job_id,
        row_number,
        generation=generation,
        title=title,
        **values,
    )


def steered_run() -> Scenario:
    """Builds one campaign whose keys are named after what becomes of them."""
    run = Scenario(History(seed=1), FinalState())
    campaign = Campaign(0, WORKSPACE)
    run.history.campaigns.append(campaign)
    steps = campaign.steps
    rows = [
        sent("m1", "A"),
        sent("undone", "B"),
        sent("edited", "C", Timing.FAR),
        sent("far", "D", Timing.FAR),
        sent("deleted", "E"),
        sent("shared", "F", is_shared=True),
        sent("raced", "G", Timing.FAR),
    ]
    results = [
        created(1, "m1"),
        created(2, "undone"),
        created(3, "edited", is_schedule=True),
        created(4, "far", is_schedule=True),
        created(5, "deleted"),
        created(6, "shared"),
        created(7, "raced", is_schedule=True),
    ]
    steps.append(DryRunStep(rows, OnExisting.REPORT, at(-1), list(results)))
    add_import(run, FIRST, rows, results, accepted_at=at(0))
    edit = TouchStep(TouchKind.EDIT, "edited", at(1), at(1.1), "C2")
    steps.append(edit)
    steps.append(TouchStep(TouchKind.DELETE, "deleted", at(1.2), at(1.3)))
    left = ((3, "changed"), (5, "deleted"), (7, "changed"))
    undone = ((1, "deleted"), (2, "deleted"), (4, "canceled"), (6, "deleted"))
    answer = UndoAnswer("undo-1", at(2), undone, left)
    undo = UndoStep(FIRST, [answer, answer], at(2.1))
    race = TouchStep(TouchKind.EDIT, "raced", at(1.9), at(2.1), "G2")
    steps.append(RaceStep(undo, race, was_edited=True))
    rows = [
        sent("m2", "H"),
        sent("soon", "I", Timing.SOON),
        sent("late", "J"),
        sent("bad", "K", expected=Expected.INVALID),
        sent("stopped", "L", Timing.FAR),
    ]
    results = [
        created(1, "m2"),
        created(2, "soon", is_schedule=True),
        failed(3, "late", "canceled"),
        failed(4, "bad", "validation_error"),
        created(5, "stopped", is_schedule=True),
    ]
    add_import(run, CANCELED, rows, results, accepted_at=at(3), is_canceled=True)
    counters = Counters("processing", 5, 4, 3, 0, 1)
    canceled = CancelAnswer(counters, 0, frozenset({5}), ((2, "published"),))
    steps.append(CancelStep(CANCELED, with_schedules=True, answers=[canceled, canceled]))
    rows = [sent("late", "J"), sent("bad", "K2")]
    results = [created(1, "late"), created(2, "bad")]
    add_import(run, CHILD, rows, results, accepted_at=at(4), parent_id=CANCELED)
    rows = [
        sent("m3", "M"),
        sent("undone", "B2"),
        sent("edited", "C3"),
        sent("deleted", "E2"),
        sent("stopped", "L2"),
    ]
    results = [
        created(1, "m3"),
        created(2, "undone", 1),
        existing(3, "edited", state="scheduled"),
        existing(4, "deleted", state="deleted"),
        existing(5, "stopped", state="canceled"),
    ]
    add_import(run, AGAIN, rows, results, accepted_at=at(5))
    rows = [sent("m4", "N"), sent("deleted", "E3"), sent("stopped", "L3", Timing.FAR)]
    results = [created(1, "m4"), created(2, "deleted", 1)]
    results.append(created(3, "stopped", 1, is_schedule=True))
    add_import(run, REVIVED, rows, results, accepted_at=at(6), on_existing=OnExisting.REVIVE)
    rows = [sent("m5", "O"), sent("edited", "C4", Timing.FAR)]
    results = [created(1, "m5"), existing(2, "edited", state="scheduled", updated=True)]
    add_import(run, UPDATED, rows, results, accepted_at=at(7), on_existing=OnExisting.UPDATE)
    for key, pins in _stored_pins().items():
        for pin in pins:
            put_pin(run.final_state, key, pin)
            if pin.state != "published":
                run.final_state.published[pin.pin_id] = 0
    return run


def _stored_pins() -> dict[str, list[Pin]]:
    far: Fields = {"state": "scheduled", "scheduled": True, "is_far": True}
    canceled: Fields = {"state": "cancelled", "scheduled": True, "is_far": True}
    free: Fields = {"deleted": True, "released": True}
    retaken: Fields = {**free, "highest": 1}
    return {
        "m1": [stored("m1", "A", FIRST, 1, **free)],
        "undone": [
            stored("undone", "B", FIRST, 2, **retaken, current=pin_id("undone", 1)),
            stored("undone", "B2", AGAIN, 2, 1),
        ],
        "edited": [stored("edited", "C4", FIRST, 3, **far)],
        "far": [stored("far", "D", FIRST, 4, **canceled, **free)],
        "deleted": [
            stored("deleted", "E", FIRST, 5, **retaken, current=pin_id("deleted", 1)),
            stored("deleted", "E3", REVIVED, 2, 1),
        ],
        "shared": [stored("shared", "F", FIRST, 6, **free)],
        "raced": [stored("raced", "G2", FIRST, 7, **far)],
        "m2": [stored("m2", "H", CANCELED, 1)],
        "soon": [stored("soon", "I", CANCELED, 2, scheduled=True)],
        "stopped": [
            stored(
                "stopped",
                "L",
                CANCELED,
                5,
                **canceled,
                **retaken,
                current=pin_id("stopped", 1),
            ),
            stored("stopped", "L3", REVIVED, 3, 1, **far),
        ],
        "late": [stored("late", "J", CHILD, 1)],
        "bad": [stored("bad", "K2", CHILD, 2)],
        "m3": [stored("m3", "M", AGAIN, 1)],
        "m4": [stored("m4", "N", REVIVED, 1)],
        "m5": [stored("m5", "O", UPDATED, 1)],
    }


def add_import(
    run: Scenario,
    job_id: str,
    rows: list[SteeredRow],
    results: list[Result],
    *,
    accepted_at: datetime,
    on_existing: OnExisting = OnExisting.REPORT,
    is_canceled: bool = False,
    parent_id: str | None = None,
) -> None:
    submission = Submission(
        0,
        Channel.JSON,
        [Row(row.key, row.expected) for row in rows],
        RequestOutcome.ACCEPTED,
        job_id,
        parent_id=parent_id,
        is_canceled=is_canceled,
        on_existing=on_existing,
        named_jobs={job_id},
    )
    run.history.submissions.append(submission)
    run.history.campaigns[0].steps.append(ImportStep(submission, rows))
    put_job(run.final_state, job_id, count_results(results), results)
    job = run.final_state.jobs[job_id]
    run.final_state.jobs[job_id] = job._replace(accepted_at=accepted_at, parent_id=parent_id)


def count_results(results: Sequence[Result]) -> Counters:
    created_rows, existing_rows, failed_rows = (
        sum(result.status == status for result in results)
        for status in ("created", "existing", "failed")
    )
    status = "completed_with_errors" if failed_rows else "completed"
    total = len(results)
    return Counters(status, total, total, created_rows, existing_rows, failed_rows)
