"""The checker accepts the losses that an older Postgres makes unavoidable, and no others."""

from collections.abc import Callable

import pytest

from tests.tools.chaos.checker import check
from tests.tools.chaos.final_state import Announcement, Pin
from tests.tools.chaos.history import Absence, Counters, Poll, RequestOutcome, SinglePin
from tests.tools.chaos.violations import Effect, Violation
from tests.unit.chaos.scenarios import (
    COMPLETE,
    COPIED_AT,
    FOURTH_JOB,
    JOB,
    LOST_KEY,
    OTHER_JOB,
    RECOVERED_AT,
    RECREATED_KEY,
    REPLACED_AT,
    SECOND_BODY_JOB,
    SECOND_JOB,
    SECOND_KEY,
    Scenario,
    consistent_run_after_a_restore,
    created,
    existing,
    lost_pin,
    put_job,
    put_pin,
)

Corruption = Callable[[Scenario], None]
EARLIER = Counters("processing", 3, 1, 0, 0, 1)


def lost_call(run: Scenario) -> SinglePin:
    return next(pin for pin in run.history.pins if pin.key == LOST_KEY)


def lose_a_pin_that_was_answered_before_the_copy(run: Scenario) -> None:
    lost_call(run).sent_at, lost_call(run).answered_at = COPIED_AT - 2, COPIED_AT - 1


def lose_a_pin_that_was_sent_after_the_restore(run: Scenario) -> None:
    lost_call(run).sent_at, lost_call(run).answered_at = REPLACED_AT + 1, REPLACED_AT + 2


def lose_a_pin_that_the_copy_had(run: Scenario) -> None:
    run.history.restores[0].forgotten_pins.discard((0, LOST_KEY))


def lose_the_pin_of_an_existing_row(run: Scenario) -> None:
    """Loses a pin that no direct call created."""
    del run.final_state.pins[0, SECOND_KEY]
    run.final_state.jobs[JOB].results[1] = existing(2, "pin-2", SECOND_KEY)
    run.history.results.clear()


def lose_the_pin_of_a_row_that_created_it(run: Scenario) -> None:
    del run.final_state.pins[0, RECREATED_KEY]


def lose_a_job_that_had_ended(run: Scenario) -> None:
    del run.final_state.jobs[OTHER_JOB]


def lose_a_request_but_keep_its_second_body(run: Scenario) -> None:
    del run.final_state.jobs["job-3"]


def answer_404_after_the_recovery(run: Scenario) -> None:
    run.history.absences.append(
        Absence(JOB, "404", sent_at=RECOVERED_AT + 1, answered_at=RECOVERED_AT + 2)
    )


def answer_404_before_the_restore(run: Scenario) -> None:
    run.history.absences.append(
        Absence(JOB, "404", sent_at=REPLACED_AT - 2, answered_at=REPLACED_AT - 1)
    )


def create_a_key_by_two_calls(run: Scenario) -> None:
    run.history.pins.append(lost_pin(LOST_KEY, "pin-g"))


def create_by_a_row_a_key_that_a_stored_call_created(run: Scenario) -> None:
    run.history.pins.append(
        SinglePin(
            0,
            RECREATED_KEY,
            RequestOutcome.ACCEPTED,
            "pin-r",
            was_created=True,
            sent_at=120,
            answered_at=121,
        )
    )


def create_a_row_in_the_second_job_of_a_request(run: Scenario) -> None:
    """Keeps everything consistent, except that the first job had ended before the restore."""
    run.final_state.jobs[OTHER_JOB].results[0] = existing(1, "pin-o", "first-2")
    run.final_state.jobs[SECOND_JOB].results[0] = created(1, "pin-o", "first-2")
    run.final_state.pins[0, "first-2"] = [Pin("pin-o", SECOND_JOB, 1, "published", scheduled=False)]


def store_a_request_a_third_time(run: Scenario) -> None:
    put_job(
        run.final_state,
        "job-2-again",
        run.final_state.jobs[SECOND_JOB].counters,
        run.final_state.jobs[SECOND_JOB].results,
    )


def store_a_request_twice_that_no_restore_lost(run: Scenario) -> None:
    del run.history.restores[0].forgotten_requests[0, "first-2"]


def accept_a_second_body_of_an_id_that_no_restore_lost(run: Scenario) -> None:
    del run.history.restores[0].forgotten_requests[0, "first-3"]


def store_the_second_job_in_part(run: Scenario) -> None:
    del run.final_state.jobs[SECOND_JOB].results[2]


def drop_a_second_body(run: Scenario) -> None:
    for jobs in (run.final_state.jobs, run.final_state.stored_jobs, run.final_state.stored_results):
        del jobs[SECOND_BODY_JOB]


def store_a_pin_with_another_id_than_answered(run: Scenario) -> None:
    put_pin(run.final_state, LOST_KEY, Pin("pin-x", None, None, "published", scheduled=False))


def show_old_counters_after_the_recovery(run: Scenario) -> None:
    run.history.polls[JOB].insert(
        -1, Poll(EARLIER, sent_at=RECOVERED_AT + 1, answered_at=RECOVERED_AT - 5)
    )


def let_counters_fall_before_the_restore(run: Scenario) -> None:
    run.history.polls[JOB].insert(
        2, Poll(EARLIER, sent_at=REPLACED_AT - 1, answered_at=REPLACED_AT - 1)
    )


def let_counters_fall_twice_during_the_recovery(run: Scenario) -> None:
    none = Counters("queued", 3, 0, 0, 0, 0)
    run.history.polls[JOB].insert(
        3, Poll(none, sent_at=REPLACED_AT + 11, answered_at=REPLACED_AT + 12)
    )


def end_with_lower_counters_than_a_poll(run: Scenario) -> None:
    run.history.polls[FOURTH_JOB] = [
        Poll(Counters("completed", 4, 4, 3, 1, 0), sent_at=105, answered_at=105)
    ]


def change_a_result_after_the_restore(run: Scenario) -> None:
    run.history.record_results(FOURTH_JOB, [created(2, "pin-g", LOST_KEY)])


def announce_a_kept_pin_with_different_contents(run: Scenario) -> None:
    run.final_state.announce(
        "pin-2:published", Announcement(b"as it was", (0, SECOND_KEY), (OTHER_JOB, 2))
    )


def announce_only_the_lost_pin(run: Scenario) -> None:
    del run.final_state.announcements["pin-r:published"][0]


LOSSES = [
    lose_a_pin_that_was_answered_before_the_copy,
    lose_a_pin_that_was_sent_after_the_restore,
    lose_a_pin_that_the_copy_had,
    lose_the_pin_of_an_existing_row,
    lose_the_pin_of_a_row_that_created_it,
    lose_a_job_that_had_ended,
    lose_a_request_but_keep_its_second_body,
    answer_404_after_the_recovery,
    answer_404_before_the_restore,
]
DUPLICATES = [
    create_a_key_by_two_calls,
    create_by_a_row_a_key_that_a_stored_call_created,
    create_a_row_in_the_second_job_of_a_request,
    store_a_request_a_third_time,
    store_a_request_twice_that_no_restore_lost,
    accept_a_second_body_of_an_id_that_no_restore_lost,
]
OTHERS = [
    store_the_second_job_in_part,
    drop_a_second_body,
    store_a_pin_with_another_id_than_answered,
    show_old_counters_after_the_recovery,
    let_counters_fall_before_the_restore,
    let_counters_fall_twice_during_the_recovery,
    end_with_lower_counters_than_a_poll,
    change_a_result_after_the_restore,
    announce_a_kept_pin_with_different_contents,
    announce_only_the_lost_pin,
]


def find_violations(corrupt: Corruption) -> list[Violation]:
    run = consistent_run_after_a_restore()
    corrupt(run)
    return check(run.history, run.final_state)


def test_unavoidable_losses_of_a_restore_are_no_violations() -> None:
    run = consistent_run_after_a_restore()
    assert check(run.history, run.final_state) == []


def test_without_a_restore_the_same_losses_are_violations() -> None:
    run = consistent_run_after_a_restore()
    run.history.restores.clear()
    assert {violation.effect for violation in check(run.history, run.final_state)} == set(Effect)


@pytest.mark.parametrize("corrupt", LOSSES)
def test_the_restore_checker_reports_a_forged_loss(corrupt: Corruption) -> None:
    assert Effect.LOST in {violation.effect for violation in find_violations(corrupt)}


@pytest.mark.parametrize("corrupt", DUPLICATES)
def test_the_restore_checker_reports_a_forged_duplicate(corrupt: Corruption) -> None:
    assert Effect.DUPLICATED in {violation.effect for violation in find_violations(corrupt)}


@pytest.mark.parametrize("corrupt", OTHERS)
def test_the_restore_checker_reports_any_other_forged_error(corrupt: Corruption) -> None:
    assert find_violations(corrupt)


def test_a_call_without_an_answer_may_have_created_the_pin_of_an_existing_row() -> None:
    run = consistent_run_after_a_restore()
    lost_call(run).outcome, lost_call(run).pin_id, lost_call(run).was_created = (
        RequestOutcome.UNKNOWN,
        None,
        False,
    )
    assert check(run.history, run.final_state) == []


def test_the_same_copy_may_be_restored_twice() -> None:
    run = consistent_run_after_a_restore()
    run.history.restores.append(run.history.restores[0])
    run.history.polls[JOB].append(Poll(COMPLETE, sent_at=300, answered_at=300))
    assert check(run.history, run.final_state) == []
