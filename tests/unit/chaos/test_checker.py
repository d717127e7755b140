"""The checker accepts what agrees, and objects to every doctored history."""

from collections.abc import Callable

import pytest

from tests.tools.chaos.checker import Effect, check
from tests.tools.chaos.history import (
    Absence,
    Channel,
    Counters,
    Expected,
    Poll,
    Row,
    SinglePin,
    Submission,
    Told,
)
from tests.tools.chaos.world import Announcement, Pin
from tests.unit.chaos.doctored import (
    DIRECT,
    FIRST,
    FUTURE,
    JOB,
    OTHER_JOB,
    SECOND,
    Doctored,
    agreeing,
    created,
    existing,
    put_job,
    put_pin,
)

Spoil = Callable[[Doctored], None]


def lose_an_accepted_import(run: Doctored) -> None:
    run.history.submissions.append(
        Submission(0, Channel.CSV, [Row("first-9", Expected.PUBLISHED)], Told.DONE, "job-9")
    )


def lose_a_row(run: Doctored) -> None:
    del run.world.jobs[JOB].results[1]


def never_end(run: Doctored) -> None:
    run.world.jobs[JOB] = run.world.jobs[JOB]._replace(completed=False)


def lose_a_publication(run: Doctored) -> None:
    del run.world.pins[0, FIRST]


def lose_a_direct_pin(run: Doctored) -> None:
    del run.world.pins[0, DIRECT]


def never_publish_what_is_due(run: Doctored) -> None:
    run.world.pins[0, FUTURE] = [run.world.pins[0, FUTURE][0]._replace(state="scheduled")]


def announce_no_pin(run: Doctored) -> None:
    run.world.published["pin-2"] = 0


def announce_no_schedule(run: Doctored) -> None:
    run.world.scheduled["pin-l"] = 0


def announce_no_job(run: Doctored) -> None:
    del run.world.job_events[JOB]


def double_an_import(run: Doctored) -> None:
    put_job(run.world, "job-1-again", run.world.jobs[JOB].counters, run.world.jobs[JOB].results)


def double_a_pin(run: Doctored) -> None:
    run.world.pins[0, SECOND].append(Pin("pin-2-again", OTHER_JOB, 2, "published", scheduled=False))


def create_a_key_twice(run: Doctored) -> None:
    run.world.jobs[OTHER_JOB].results[1] = created(2, "pin-2", SECOND)


def create_what_a_direct_call_created(run: Doctored) -> None:
    run.history.pins.append(SinglePin(0, FIRST, Told.DONE, "pin-1", made=True))


def keep_what_was_refused(run: Doctored) -> None:
    run.history.submissions[0].told = Told.NOTHING


def keep_a_part(run: Doctored) -> None:
    run.history.submissions[1].rows.append(Row("key-4", Expected.PUBLISHED))


def know_a_job_of_nobody(run: Doctored) -> None:
    put_job(
        run.world, "job-x", Counters("completed", 1, 1, 1, 0, 0), [created(1, "pin-x", "first-x")]
    )


def hide_a_job(run: Doctored) -> None:
    run.world.stored_jobs["job-h"] = Counters("queued", 1, 0, 0, 0, 0)


def accept_under_another_id(run: Doctored) -> None:
    run.history.submissions[0].job_id = OTHER_JOB


def fail_a_good_row(run: Doctored) -> None:
    run.world.jobs[JOB].results[1] = (
        run.world.jobs[JOB]
        .results[2]
        ._replace(row_number=2, key=SECOND, error_code="internal_error")
    )


def publish_a_bad_row(run: Doctored) -> None:
    run.world.jobs[JOB].results[2] = created(3, "pin-3", "key-3")


def swap_rows(run: Doctored) -> None:
    one, two, *_ = results = run.world.jobs[JOB].results
    results[:2] = [one._replace(key=two.key), two._replace(key=one.key)]


def name_another_pin(run: Doctored) -> None:
    run.world.jobs[OTHER_JOB].results[1] = (
        run.world.jobs[OTHER_JOB].results[1]._replace(pin="pin-1")
    )


def take_the_origin_away(run: Doctored) -> None:
    run.world.pins[0, SECOND] = [
        run.world.pins[0, SECOND][0]._replace(job_id=OTHER_JOB, row_number=2)
    ]


def publish_from_nowhere(run: Doctored) -> None:
    put_pin(run.world, "key-y", Pin("pin-y", None, None, "published", scheduled=False))


def let_a_counter_fall(run: Doctored) -> None:
    run.history.polls[JOB].insert(0, Poll(Counters("processing", 3, 2, 1, 0, 1)))


def change_after_the_end(run: Doctored) -> None:
    run.history.polls[JOB][-1] = Poll(Counters("completed_with_errors", 3, 3, 1, 1, 1))


def count_wrongly(run: Doctored) -> None:
    run.world.jobs[JOB] = run.world.jobs[JOB]._replace(
        counters=Counters("completed_with_errors", 3, 3, 1, 1, 1)
    )


def count_otherwise_in_the_database(run: Doctored) -> None:
    run.world.stored_results[JOB]["created"] = 1


def poll_what_does_not_add_up(run: Doctored) -> None:
    run.history.polls[JOB].insert(0, Poll(Counters("processing", 3, 1, 0, 0, 0)))


def create_the_later_of_equal_keys(run: Doctored) -> None:
    run.history.submissions[0].rows[2] = Row(FIRST, Expected.PUBLISHED)
    run.world.jobs[JOB].results[2] = created(3, "pin-1", FIRST)


def announce_a_pin_that_is_not(run: Doctored) -> None:
    run.world.announce("pin-z:published", Announcement(b"pin", (0, "key-z")))


def announce_other_counters(run: Doctored) -> None:
    run.world.job_events[JOB] = [Counters("completed", 3, 3, 3, 0, 0)]


def bury_a_good_record(run: Doctored) -> None:
    run.world.dead_letters["invalid_record"] = 1


def bury_too_little(run: Doctored) -> None:
    run.history.submissions[1].reused = Told.DONE


def announce_a_pin_differently(run: Doctored) -> None:
    run.world.announce("pin-1:published", Announcement(b"another board", (0, FIRST), (JOB, 1)))


def announce_a_job_differently(run: Doctored) -> None:
    run.world.announce(f"{JOB}:completed", Announcement(b"another message"))


def announce_another_origin(run: Doctored) -> None:
    run.world.announcements["pin-1:published"] = [Announcement(b"pin", (0, FIRST), (OTHER_JOB, 1))]


def find_no_job_that_was_accepted(run: Doctored) -> None:
    run.history.absences.append(Absence(JOB, "404", asked=1, answered=2))


def see_a_row_change(run: Doctored) -> None:
    run.history.saw_results(JOB, [existing(1, "pin-1", FIRST)])
    run.history.saw_results(JOB, run.world.jobs[JOB].results)


def see_a_row_that_becomes_another(run: Doctored) -> None:
    run.history.saw_results(JOB, [existing(1, "pin-1", FIRST)])


def answer_with_an_error(run: Doctored) -> None:
    run.history.surprises.append("/v1/pins answered 500")


LOSSES = [
    lose_an_accepted_import,
    lose_a_row,
    never_end,
    lose_a_publication,
    lose_a_direct_pin,
    never_publish_what_is_due,
    announce_no_pin,
    announce_no_schedule,
    announce_no_job,
]
DOUBLINGS = [double_an_import, double_a_pin, create_a_key_twice, create_what_a_direct_call_created]
OTHERS = [
    keep_what_was_refused,
    keep_a_part,
    know_a_job_of_nobody,
    hide_a_job,
    accept_under_another_id,
    fail_a_good_row,
    publish_a_bad_row,
    swap_rows,
    name_another_pin,
    take_the_origin_away,
    publish_from_nowhere,
    let_a_counter_fall,
    change_after_the_end,
    count_wrongly,
    count_otherwise_in_the_database,
    poll_what_does_not_add_up,
    create_the_later_of_equal_keys,
    announce_a_pin_that_is_not,
    announce_other_counters,
    bury_a_good_record,
    bury_too_little,
    announce_a_pin_differently,
    announce_a_job_differently,
    announce_another_origin,
    find_no_job_that_was_accepted,
    see_a_row_change,
    see_a_row_that_becomes_another,
    answer_with_an_error,
]


def effects_of(spoil: Spoil) -> set[Effect]:
    run = agreeing()
    spoil(run)
    return {violation.effect for violation in check(run.history, run.world)}


def test_what_agrees_is_accepted() -> None:
    run = agreeing()
    assert check(run.history, run.world) == []


@pytest.mark.parametrize("spoil", LOSSES)
def test_a_loss_is_found(spoil: Spoil) -> None:
    assert Effect.LOST in effects_of(spoil)


@pytest.mark.parametrize("spoil", DOUBLINGS)
def test_a_doubling_is_found(spoil: Spoil) -> None:
    assert Effect.DOUBLED in effects_of(spoil)


@pytest.mark.parametrize("spoil", OTHERS)
def test_whatever_else_is_wrong_is_found(spoil: Spoil) -> None:
    assert effects_of(spoil)


def test_an_import_whose_answer_was_lost_may_stand_or_not() -> None:
    run = agreeing()
    run.history.submissions[0].told = Told.UNKNOWN
    run.history.submissions.append(
        Submission(0, Channel.JSON, [Row("first-9", Expected.PUBLISHED)], Told.UNKNOWN)
    )
    assert check(run.history, run.world) == []
