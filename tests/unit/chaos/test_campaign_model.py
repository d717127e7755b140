"""The checker accepts a consistent campaign and finds every corruption of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.tools.chaos.checker import check
from tests.tools.chaos.history import (
    CancelStep,
    DryRunStep,
    RaceStep,
    Result,
    UndoStep,
)
from tests.tools.chaos.violations import Effect
from tests.unit.chaos.scenarios import Scenario, put_job, put_pin
from tests.unit.chaos.steered_run import (
    AGAIN,
    CANCELED,
    CHILD,
    FIRST,
    REVIVED,
    UPDATED,
    at,
    count_results,
    created,
    existing,
    failed,
    pin_id,
    steered_run,
    stored,
)

Corruption = Callable[[Scenario], None]


def change_result(run: Scenario, job_id: str, number: int, result: Result) -> None:
    """Replaces a result, and counts again: only the model can see that it is wrong."""
    job = run.final_state.jobs[job_id]
    results = [*job.results]
    results[number - 1] = result
    put_job(run.final_state, job_id, count_results(results), results)
    run.final_state.jobs[job_id] = run.final_state.jobs[job_id]._replace(
        accepted_at=job.accepted_at, parent_id=job.parent_id
    )


def change_pin(run: Scenario, key: str, generation: int = 0, **fields: Any) -> None:
    pins = run.final_state.pins[0, key]
    pins[generation] = pins[generation]._replace(**fields)


def find_undo(run: Scenario) -> UndoStep:
    return next(run.history.campaigns[0].undos())


def change_undo(run: Scenario, **fields: Any) -> None:
    undo = find_undo(run)
    answer = undo.answers[0]._replace(**fields)
    undo.answers[:] = [answer] * len(undo.answers)


def find_cancel(run: Scenario) -> CancelStep:
    return next(step for step in run.history.campaigns[0].steps if isinstance(step, CancelStep))


def change_cancel(run: Scenario, **fields: Any) -> None:
    cancel = find_cancel(run)
    answer = cancel.answers[0]._replace(**fields)
    cancel.answers[:] = [answer] * len(cancel.answers)


def find_dry_run(run: Scenario) -> DryRunStep:
    return next(step for step in run.history.campaigns[0].steps if isinstance(step, DryRunStep))


def forget_an_undo(run: Scenario) -> None:
    change_pin(run, "m1", deleted=False)


def undo_more_than_was_answered(run: Scenario) -> None:
    change_pin(run, "m2", deleted=True)


def leave_a_free_key_unused(run: Scenario) -> None:
    change_result(run, AGAIN, 2, existing(2, "undone", state="deleted"))
    del run.final_state.pins[0, "undone"][1]
    del run.final_state.announcements[f"{pin_id('undone', 1)}:published"]
    change_pin(run, "undone", current=None, highest=0)


def lose_a_row_that_a_cancellation_left(run: Scenario) -> None:
    run.final_state.pins.pop((0, "m2"))


def lose_a_revived_row(run: Scenario) -> None:
    change_result(run, REVIVED, 2, existing(2, "deleted", state="deleted"))
    del run.final_state.pins[0, "deleted"][1]
    change_pin(run, "deleted", released=False, current=None, highest=0)


def lose_an_update(run: Scenario) -> None:
    change_result(run, UPDATED, 2, existing(2, "edited", state="scheduled"))


def undo_without_a_row(run: Scenario) -> None:
    change_undo(run, undone=find_undo(run).answers[0].undone[1:])


def cancel_without_a_schedule(run: Scenario) -> None:
    change_cancel(run, canceled=frozenset())


def lose_the_child_of_a_retry(run: Scenario) -> None:
    del run.final_state.jobs[CHILD]


def make_two_jobs_of_a_key(run: Scenario) -> None:
    job = run.final_state.jobs[FIRST]
    put_job(run.final_state, "job-twice", job.counters, job.results)


def name_two_jobs_for_a_key(run: Scenario) -> None:
    run.history.submissions[0].named_jobs.add("job-twice")


def make_two_children_of_a_retry(run: Scenario) -> None:
    job = run.final_state.jobs[CHILD]
    put_job(run.final_state, "job-twice", job.counters, job.results)
    run.final_state.jobs["job-twice"] = job


def keep_two_live_generations(run: Scenario) -> None:
    change_pin(run, "undone", deleted=False)


def make_a_generation_without_a_release(run: Scenario) -> None:
    change_result(run, AGAIN, 3, created(3, "edited", 1))
    change_pin(run, "edited", deleted=True, released=True, current=pin_id("edited", 1), highest=1)
    put_pin(run.final_state, "edited", stored("edited", "C3", AGAIN, 3, 1))


def make_a_generation_that_no_row_reports(run: Scenario) -> None:
    put_pin(run.final_state, "m1", stored("m1", "A", FIRST, 1, 1))


def record_two_undos(run: Scenario) -> None:
    undo = find_undo(run)
    undo.answers[1] = undo.answers[1]._replace(undo_id="undo-2")


def take_a_key_before_its_release(run: Scenario) -> None:
    job = run.final_state.jobs[AGAIN]
    run.final_state.jobs[AGAIN] = job._replace(accepted_at=at(1))


def take_a_wrong_generation(run: Scenario) -> None:
    run.final_state.pins[0, "undone"][1] = stored("undone", "B2", AGAIN, 2, 2)


def name_a_wrong_generation(run: Scenario) -> None:
    change_result(run, AGAIN, 2, created(2, "undone", 0))


def give_the_key_to_another_pin(run: Scenario) -> None:
    change_pin(run, "undone", current=pin_id("undone", 2))


def do_not_release_a_key(run: Scenario) -> None:
    change_pin(run, "m1", released=False)


def change_a_result_by_an_undo(run: Scenario) -> None:
    run.history.record_results(FIRST, run.final_state.jobs[FIRST].results)
    change_result(run, FIRST, 2, existing(2, "undone", state="deleted"))


def keep_a_pin_of_a_canceled_row(run: Scenario) -> None:
    put_pin(run.final_state, "late", stored("late", "J", CANCELED, 3))


def cancel_a_row_of_a_running_import(run: Scenario) -> None:
    change_result(run, AGAIN, 2, failed(2, "undone", "canceled"))


def cancel_a_row_that_ingest_failed(run: Scenario) -> None:
    change_result(run, CANCELED, 4, failed(4, "bad", "canceled"))


def cancel_fewer_rows_than_answered(run: Scenario) -> None:
    change_cancel(run, canceled_rows=2)


def create_fewer_rows_than_a_cancellation_saw(run: Scenario) -> None:
    counters = find_cancel(run).answers[0].counters
    change_cancel(run, counters=counters._replace(created=4))


def answer_cancellations_differently(run: Scenario) -> None:
    answers = find_cancel(run).answers
    answers[1] = answers[1]._replace(left=((2, "failed"),))


def leave_a_schedule_for_a_wrong_reason(run: Scenario) -> None:
    change_cancel(run, canceled=frozenset(), left=((2, "published"), (5, "published")))


def cancel_a_published_schedule(run: Scenario) -> None:
    change_cancel(run, canceled=frozenset({2, 5}), left=())


def publish_a_canceled_schedule(run: Scenario) -> None:
    run.final_state.published[pin_id("stopped")] = 1


def publish_a_far_schedule(run: Scenario) -> None:
    change_pin(run, "raced", state="published")


def change_undo_reason(run: Scenario, number: int, reason: str) -> None:
    left = find_undo(run).answers[0].left
    change_undo(run, left=tuple((n, reason if n == number else r) for n, r in left))


def leave_a_row_for_a_wrong_reason(run: Scenario) -> None:
    change_undo_reason(run, 3, "deleted")


def leave_a_deleted_row_as_changed(run: Scenario) -> None:
    change_undo_reason(run, 5, "changed")


def leave_an_untouched_row(run: Scenario) -> None:
    answer = find_undo(run).answers[0]
    change_undo(
        run, undone=answer.undone[:1] + answer.undone[2:], left=((2, "changed"), *answer.left)
    )


def leave_a_shared_row(run: Scenario) -> None:
    answer = find_undo(run).answers[0]
    change_undo(run, undone=answer.undone[:-1], left=(*answer.left, (6, "changed")))


def undo_a_changed_row(run: Scenario) -> None:
    answer = find_undo(run).answers[0]
    change_undo(run, undone=(*answer.undone, (3, "canceled")), left=answer.left[1:])


def undo_a_row_that_an_edit_won(run: Scenario) -> None:
    answer = find_undo(run).answers[0]
    change_undo(run, undone=(*answer.undone, (7, "canceled")), left=answer.left[:-1])


def leave_a_row_whose_edit_lost(run: Scenario) -> None:
    steps = run.history.campaigns[0].steps
    position = next(n for n, step in enumerate(steps) if isinstance(step, RaceStep))
    race = steps[position]
    assert isinstance(race, RaceStep)
    steps[position] = replace(race, was_edited=False)


def undo_a_schedule_as_a_pin(run: Scenario) -> None:
    undone = find_undo(run).answers[0].undone
    change_undo(run, undone=tuple((n, "deleted" if n == 4 else a) for n, a in undone))


def forget_an_edit(run: Scenario) -> None:
    change_pin(run, "raced", title="G")


def store_the_content_before_an_update(run: Scenario) -> None:
    change_pin(run, "edited", title="C2")


def update_by_an_older_import(run: Scenario) -> None:
    job = run.final_state.jobs[UPDATED]
    run.final_state.jobs[UPDATED] = job._replace(accepted_at=at(0.5))


def revive_by_an_older_import(run: Scenario) -> None:
    job = run.final_state.jobs[REVIVED]
    run.final_state.jobs[REVIVED] = job._replace(accepted_at=at(1.1))


def update_without_being_asked(run: Scenario) -> None:
    change_result(run, AGAIN, 3, existing(3, "edited", state="scheduled", updated=True))


def report_a_wrong_state(run: Scenario) -> None:
    change_result(run, AGAIN, 5, existing(5, "stopped", state="scheduled"))


def plan_another_result(run: Scenario) -> None:
    find_dry_run(run).results[1] = existing(2, "undone", state="published")


def plan_a_failure(run: Scenario) -> None:
    find_dry_run(run).results[1] = failed(2, "undone", "board_not_found")


def plan_fewer_rows(run: Scenario) -> None:
    del find_dry_run(run).results[-1]


def keep_rows_of_a_dry_run(run: Scenario) -> None:
    put_job(run.final_state, "job-dry", run.final_state.jobs[AGAIN].counters, [created(1, "dry")])


LOSSES = [
    undo_more_than_was_answered,
    leave_a_free_key_unused,
    lose_a_row_that_a_cancellation_left,
    lose_a_revived_row,
    lose_an_update,
    undo_without_a_row,
    cancel_without_a_schedule,
    lose_the_child_of_a_retry,
    plan_another_result,
]
DUPLICATES = [
    make_two_jobs_of_a_key,
    name_two_jobs_for_a_key,
    make_two_children_of_a_retry,
    keep_two_live_generations,
    make_a_generation_without_a_release,
    make_a_generation_that_no_row_reports,
    record_two_undos,
    take_a_key_before_its_release,
    revive_by_an_older_import,
]
OTHERS = [
    forget_an_undo,
    take_a_wrong_generation,
    name_a_wrong_generation,
    give_the_key_to_another_pin,
    do_not_release_a_key,
    change_a_result_by_an_undo,
    keep_a_pin_of_a_canceled_row,
    cancel_a_row_of_a_running_import,
    cancel_a_row_that_ingest_failed,
    cancel_fewer_rows_than_answered,
    create_fewer_rows_than_a_cancellation_saw,
    answer_cancellations_differently,
    leave_a_schedule_for_a_wrong_reason,
    cancel_a_published_schedule,
    publish_a_canceled_schedule,
    publish_a_far_schedule,
    leave_a_row_for_a_wrong_reason,
    leave_a_deleted_row_as_changed,
    leave_an_untouched_row,
    leave_a_shared_row,
    undo_a_changed_row,
    undo_a_row_that_an_edit_won,
    leave_a_row_whose_edit_lost,
    undo_a_schedule_as_a_pin,
    forget_an_edit,
    store_the_content_before_an_update,
    update_by_an_older_import,
    update_without_being_asked,
    report_a_wrong_state,
    plan_a_failure,
    plan_fewer_rows,
    keep_rows_of_a_dry_run,
]


def find_effects(corrupt: Corruption) -> set[Effect]:
    run = steered_run()
    corrupt(run)
    return {violation.effect for violation in check(run.history, run.final_state)}


def test_a_consistent_campaign_has_no_violations() -> None:
    run = steered_run()
    assert check(run.history, run.final_state) == []


@pytest.mark.parametrize("corrupt", LOSSES)
def test_the_campaign_model_reports_a_forged_loss(corrupt: Corruption) -> None:
    assert Effect.LOST in find_effects(corrupt)


@pytest.mark.parametrize("corrupt", DUPLICATES)
def test_the_campaign_model_reports_a_forged_duplicate(corrupt: Corruption) -> None:
    assert Effect.DUPLICATED in find_effects(corrupt)


@pytest.mark.parametrize("corrupt", OTHERS)
def test_the_campaign_model_reports_any_other_forged_error(corrupt: Corruption) -> None:
    assert find_effects(corrupt)


def test_a_clock_that_is_behind_may_leave_a_free_key_unused() -> None:
    run = steered_run()
    leave_a_free_key_unused(run)
    job = run.final_state.jobs[AGAIN]
    run.final_state.jobs[AGAIN] = job._replace(accepted_at=at(2.05))
    assert check(run.history, run.final_state) == []


def test_a_schedule_that_is_due_soon_may_be_canceled_instead() -> None:
    run = steered_run()
    cancel_a_published_schedule(run)
    change_pin(run, "soon", state="cancelled")
    run.final_state.published[pin_id("soon")] = 0
    assert check(run.history, run.final_state) == []
