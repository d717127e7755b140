"""The checker accepts what an older Postgres must lose, and nothing more."""

from collections.abc import Callable

import pytest

from tests.tools.chaos.checker import Effect, Violation, check
from tests.tools.chaos.final_state import Announcement, Pin
from tests.tools.chaos.history import Absence, Counters, Poll, RequestOutcome, SinglePin
from tests.unit.chaos.scenarios import (
    BESIDE,
    COMPLETE,
    COPY,
    GONE,
    JOB,
    OTHER_JOB,
    RECOVERED,
    REMADE,
    REPLACED,
    REUSE,
    SECOND,
    SNAPSHOT,
    Scenario,
    consistent_run_after_a_restore,
    created,
    existing,
    lost_pin,
    put_job,
    put_pin,
)

Corruption = Callable[[Scenario], None]
LITTLE = Counters("processing", 3, 1, 0, 0, 1)


def gone(run: Scenario) -> SinglePin:
    return next(pin for pin in run.history.pins if pin.key == GONE)


def lose_a_pin_that_was_answered_before_the_copy(run: Scenario) -> None:
    gone(run).sent_at, gone(run).answered_at = SNAPSHOT - 2, SNAPSHOT - 1


def lose_a_pin_that_was_asked_for_after_the_restore(run: Scenario) -> None:
    gone(run).sent_at, gone(run).answered_at = REPLACED + 1, REPLACED + 2


def lose_a_pin_that_the_copy_had(run: Scenario) -> None:
    run.history.restores[0].forgotten_pins.discard((0, GONE))


def lose_the_pin_of_an_existing_row(run: Scenario) -> None:
    """No direct call made it."""
    del run.final_state.pins[0, SECOND]
    run.final_state.jobs[JOB].results[1] = existing(2, "pin-2", SECOND)
    run.history.results.clear()


def lose_the_pin_of_a_row_that_created_it(run: Scenario) -> None:
    del run.final_state.pins[0, REMADE]


def lose_a_job_that_had_ended(run: Scenario) -> None:
    del run.final_state.jobs[OTHER_JOB]


def lose_the_request_and_keep_its_reuse(run: Scenario) -> None:
    del run.final_state.jobs["job-3"]


def lose_a_job_for_ever(run: Scenario) -> None:
    run.history.absences.append(
        Absence(JOB, "404", sent_at=RECOVERED + 1, answered_at=RECOVERED + 2)
    )


def lose_a_job_before_the_restore(run: Scenario) -> None:
    run.history.absences.append(Absence(JOB, "404", sent_at=REPLACED - 2, answered_at=REPLACED - 1))


def create_a_key_by_two_calls(run: Scenario) -> None:
    run.history.pins.append(lost_pin(GONE, "pin-g"))


def create_by_a_row_what_a_lasting_call_created(run: Scenario) -> None:
    run.history.pins.append(
        SinglePin(
            0,
            REMADE,
            RequestOutcome.ACCEPTED,
            "pin-r",
            was_created=True,
            sent_at=120,
            answered_at=121,
        )
    )


def create_by_a_copy(run: Scenario) -> None:
    """Everything agrees but that the first job had ended before."""
    run.final_state.jobs[OTHER_JOB].results[0] = existing(1, "pin-o", "first-2")
    run.final_state.jobs[COPY].results[0] = created(1, "pin-o", "first-2")
    run.final_state.pins[0, "first-2"] = [Pin("pin-o", COPY, 1, "published", scheduled=False)]


def copy_a_request_once_more(run: Scenario) -> None:
    put_job(
        run.final_state,
        "job-2-again",
        run.final_state.jobs[COPY].counters,
        run.final_state.jobs[COPY].results,
    )


def copy_a_request_that_is_known(run: Scenario) -> None:
    del run.history.restores[0].forgotten_requests[0, "first-2"]


def accept_a_reuse_of_a_known_id(run: Scenario) -> None:
    del run.history.restores[0].forgotten_requests[0, "first-3"]


def copy_a_part(run: Scenario) -> None:
    del run.final_state.jobs[COPY].results[2]


def neither_accept_nor_bury_a_reuse(run: Scenario) -> None:
    for what in (run.final_state.jobs, run.final_state.stored_jobs, run.final_state.stored_results):
        del what[REUSE]


def stand_under_another_id(run: Scenario) -> None:
    put_pin(run.final_state, GONE, Pin("pin-x", None, None, "published", scheduled=False))


def stay_behind_after_the_recovery(run: Scenario) -> None:
    run.history.polls[JOB].insert(
        -1, Poll(LITTLE, sent_at=RECOVERED + 1, answered_at=RECOVERED - 5)
    )


def fall_before_the_restore(run: Scenario) -> None:
    run.history.polls[JOB].insert(2, Poll(LITTLE, sent_at=REPLACED - 1, answered_at=REPLACED - 1))


def fall_once_more_during_the_recovery(run: Scenario) -> None:
    none = Counters("queued", 3, 0, 0, 0, 0)
    run.history.polls[JOB].insert(3, Poll(none, sent_at=REPLACED + 11, answered_at=REPLACED + 12))


def end_with_less_than_was_seen(run: Scenario) -> None:
    run.history.polls[BESIDE] = [
        Poll(Counters("completed", 4, 4, 3, 1, 0), sent_at=105, answered_at=105)
    ]


def settle_a_row_otherwise_after_the_restore(run: Scenario) -> None:
    run.history.record_results(BESIDE, [created(2, "pin-g", GONE)])


def announce_differently_what_was_not_forgotten(run: Scenario) -> None:
    run.final_state.announce(
        "pin-2:published", Announcement(b"as it was", (0, SECOND), (OTHER_JOB, 2))
    )


def announce_only_what_is_lost(run: Scenario) -> None:
    del run.final_state.announcements["pin-r:published"][0]


LOSSES = [
    lose_a_pin_that_was_answered_before_the_copy,
    lose_a_pin_that_was_asked_for_after_the_restore,
    lose_a_pin_that_the_copy_had,
    lose_the_pin_of_an_existing_row,
    lose_the_pin_of_a_row_that_created_it,
    lose_a_job_that_had_ended,
    lose_the_request_and_keep_its_reuse,
    lose_a_job_for_ever,
    lose_a_job_before_the_restore,
]
DUPLICATES = [
    create_a_key_by_two_calls,
    create_by_a_row_what_a_lasting_call_created,
    create_by_a_copy,
    copy_a_request_once_more,
    copy_a_request_that_is_known,
    accept_a_reuse_of_a_known_id,
]
OTHERS = [
    copy_a_part,
    neither_accept_nor_bury_a_reuse,
    stand_under_another_id,
    stay_behind_after_the_recovery,
    fall_before_the_restore,
    fall_once_more_during_the_recovery,
    end_with_less_than_was_seen,
    settle_a_row_otherwise_after_the_restore,
    announce_differently_what_was_not_forgotten,
    announce_only_what_is_lost,
]


def violations_of(corrupt: Corruption) -> list[Violation]:
    run = consistent_run_after_a_restore()
    corrupt(run)
    return check(run.history, run.final_state)


def test_what_a_restore_must_lose_is_accepted() -> None:
    run = consistent_run_after_a_restore()
    assert check(run.history, run.final_state) == []


def test_without_a_restore_nothing_of_it_is() -> None:
    run = consistent_run_after_a_restore()
    run.history.restores.clear()
    assert {violation.effect for violation in check(run.history, run.final_state)} == set(Effect)


@pytest.mark.parametrize("corrupt", LOSSES)
def test_a_loss_is_found(corrupt: Corruption) -> None:
    assert Effect.LOST in {violation.effect for violation in violations_of(corrupt)}


@pytest.mark.parametrize("corrupt", DUPLICATES)
def test_a_doubling_is_found(corrupt: Corruption) -> None:
    assert Effect.DUPLICATED in {violation.effect for violation in violations_of(corrupt)}


@pytest.mark.parametrize("corrupt", OTHERS)
def test_whatever_else_is_wrong_is_found(corrupt: Corruption) -> None:
    assert violations_of(corrupt)


def test_a_call_without_an_answer_may_have_made_the_pin_of_an_existing_row() -> None:
    run = consistent_run_after_a_restore()
    gone(run).outcome, gone(run).pin_id, gone(run).was_created = RequestOutcome.UNKNOWN, None, False
    assert check(run.history, run.final_state) == []


def test_an_older_copy_may_be_restored_twice() -> None:
    run = consistent_run_after_a_restore()
    run.history.restores.append(run.history.restores[0])
    run.history.polls[JOB].append(Poll(COMPLETE, sent_at=300, answered_at=300))
    assert check(run.history, run.final_state) == []
