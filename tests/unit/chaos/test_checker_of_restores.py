"""The checker accepts what an older Postgres must lose, and nothing more."""

from collections.abc import Callable

import pytest

from tests.tools.chaos.checker import Effect, Violation, check
from tests.tools.chaos.history import Absence, Counters, Poll, SinglePin, Told
from tests.tools.chaos.world import Announcement, Pin
from tests.unit.chaos.doctored import (
    ALL_OF_IT,
    BESIDE,
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
    Doctored,
    agreeing_after_a_restore,
    created,
    existing,
    lost_pin,
    put_job,
    put_pin,
)

Spoil = Callable[[Doctored], None]
LITTLE = Counters("processing", 3, 1, 0, 0, 1)


def gone(run: Doctored) -> SinglePin:
    return next(pin for pin in run.history.pins if pin.key == GONE)


def lose_a_pin_that_was_answered_before_the_copy(run: Doctored) -> None:
    gone(run).asked, gone(run).answered = SNAPSHOT - 2, SNAPSHOT - 1


def lose_a_pin_that_was_asked_for_after_the_restore(run: Doctored) -> None:
    gone(run).asked, gone(run).answered = REPLACED + 1, REPLACED + 2


def lose_a_pin_that_the_copy_had(run: Doctored) -> None:
    run.history.restores[0].forgotten_pins.discard((0, GONE))


def lose_the_pin_of_an_existing_row(run: Doctored) -> None:
    """No direct call made it."""
    del run.world.pins[0, SECOND]
    run.world.jobs[JOB].results[1] = existing(2, "pin-2", SECOND)
    run.history.results.clear()


def lose_the_pin_of_a_row_that_created_it(run: Doctored) -> None:
    del run.world.pins[0, REMADE]


def lose_a_job_that_had_ended(run: Doctored) -> None:
    del run.world.jobs[OTHER_JOB]


def lose_the_request_and_keep_its_reuse(run: Doctored) -> None:
    del run.world.jobs["job-3"]


def lose_a_job_for_ever(run: Doctored) -> None:
    run.history.absences.append(Absence(JOB, "404", asked=RECOVERED + 1, answered=RECOVERED + 2))


def lose_a_job_before_the_restore(run: Doctored) -> None:
    run.history.absences.append(Absence(JOB, "404", asked=REPLACED - 2, answered=REPLACED - 1))


def create_a_key_by_two_calls(run: Doctored) -> None:
    run.history.pins.append(lost_pin(GONE, "pin-g"))


def create_by_a_row_what_a_lasting_call_created(run: Doctored) -> None:
    run.history.pins.append(
        SinglePin(0, REMADE, Told.DONE, "pin-r", made=True, asked=120, answered=121)
    )


def create_by_a_copy(run: Doctored) -> None:
    """Everything agrees but that the first job had ended before."""
    run.world.jobs[OTHER_JOB].results[0] = existing(1, "pin-o", "first-2")
    run.world.jobs[COPY].results[0] = created(1, "pin-o", "first-2")
    run.world.pins[0, "first-2"] = [Pin("pin-o", COPY, 1, "published", scheduled=False)]


def copy_a_request_once_more(run: Doctored) -> None:
    put_job(run.world, "job-2-again", run.world.jobs[COPY].counters, run.world.jobs[COPY].results)


def copy_a_request_that_is_known(run: Doctored) -> None:
    del run.history.restores[0].forgotten_requests[0, "first-2"]


def accept_a_reuse_of_a_known_id(run: Doctored) -> None:
    del run.history.restores[0].forgotten_requests[0, "first-3"]


def copy_a_part(run: Doctored) -> None:
    del run.world.jobs[COPY].results[2]


def neither_accept_nor_bury_a_reuse(run: Doctored) -> None:
    for what in (run.world.jobs, run.world.stored_jobs, run.world.stored_results):
        del what[REUSE]


def stand_under_another_id(run: Doctored) -> None:
    put_pin(run.world, GONE, Pin("pin-x", None, None, "published", scheduled=False))


def stay_behind_after_the_recovery(run: Doctored) -> None:
    run.history.polls[JOB].insert(-1, Poll(LITTLE, asked=RECOVERED + 1, answered=RECOVERED - 5))


def fall_before_the_restore(run: Doctored) -> None:
    run.history.polls[JOB].insert(2, Poll(LITTLE, asked=REPLACED - 1, answered=REPLACED - 1))


def fall_once_more_during_the_recovery(run: Doctored) -> None:
    none = Counters("queued", 3, 0, 0, 0, 0)
    run.history.polls[JOB].insert(3, Poll(none, asked=REPLACED + 11, answered=REPLACED + 12))


def end_with_less_than_was_seen(run: Doctored) -> None:
    run.history.polls[BESIDE] = [
        Poll(Counters("completed", 4, 4, 3, 1, 0), asked=105, answered=105)
    ]


def settle_a_row_otherwise_after_the_restore(run: Doctored) -> None:
    run.history.saw_results(BESIDE, [created(2, "pin-g", GONE)])


def announce_differently_what_was_not_forgotten(run: Doctored) -> None:
    run.world.announce("pin-2:published", Announcement(b"as it was", (0, SECOND), (OTHER_JOB, 2)))


def announce_only_what_is_lost(run: Doctored) -> None:
    del run.world.announcements["pin-r:published"][0]


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
DOUBLINGS = [
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


def violations_of(spoil: Spoil) -> list[Violation]:
    run = agreeing_after_a_restore()
    spoil(run)
    return check(run.history, run.world)


def test_what_a_restore_must_lose_is_accepted() -> None:
    run = agreeing_after_a_restore()
    assert check(run.history, run.world) == []


def test_without_a_restore_nothing_of_it_is() -> None:
    run = agreeing_after_a_restore()
    run.history.restores.clear()
    assert {violation.effect for violation in check(run.history, run.world)} == set(Effect)


@pytest.mark.parametrize("spoil", LOSSES)
def test_a_loss_is_found(spoil: Spoil) -> None:
    assert Effect.LOST in {violation.effect for violation in violations_of(spoil)}


@pytest.mark.parametrize("spoil", DOUBLINGS)
def test_a_doubling_is_found(spoil: Spoil) -> None:
    assert Effect.DOUBLED in {violation.effect for violation in violations_of(spoil)}


@pytest.mark.parametrize("spoil", OTHERS)
def test_whatever_else_is_wrong_is_found(spoil: Spoil) -> None:
    assert violations_of(spoil)


def test_a_call_without_an_answer_may_have_made_the_pin_of_an_existing_row() -> None:
    run = agreeing_after_a_restore()
    gone(run).told, gone(run).pin_id, gone(run).made = Told.UNKNOWN, None, False
    assert check(run.history, run.world) == []


def test_an_older_copy_may_be_restored_twice() -> None:
    run = agreeing_after_a_restore()
    run.history.restores.append(run.history.restores[0])
    run.history.polls[JOB].append(Poll(ALL_OF_IT, asked=300, answered=300))
    assert check(run.history, run.world) == []
