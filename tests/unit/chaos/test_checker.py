"""The checker accepts what agrees, and objects to every doctored history."""

from collections.abc import Callable

import pytest

from tests.tools.chaos.checker import Effect, check
from tests.tools.chaos.final_state import Announcement, Pin
from tests.tools.chaos.history import (
    Absence,
    Channel,
    Counters,
    Expected,
    Poll,
    RequestOutcome,
    Row,
    SinglePin,
    Submission,
)
from tests.unit.chaos.scenarios import (
    DIRECT,
    FIRST,
    FUTURE,
    JOB,
    OTHER_JOB,
    SECOND,
    Scenario,
    consistent_run,
    created,
    existing,
    put_job,
    put_pin,
)

Corruption = Callable[[Scenario], None]


def lose_an_accepted_import(run: Scenario) -> None:
    run.history.submissions.append(
        Submission(
            0, Channel.CSV, [Row("first-9", Expected.PUBLISHED)], RequestOutcome.ACCEPTED, "job-9"
        )
    )


def lose_a_row(run: Scenario) -> None:
    del run.final_state.jobs[JOB].results[1]


def never_end(run: Scenario) -> None:
    run.final_state.jobs[JOB] = run.final_state.jobs[JOB]._replace(completed=False)


def lose_a_publication(run: Scenario) -> None:
    del run.final_state.pins[0, FIRST]


def lose_a_direct_pin(run: Scenario) -> None:
    del run.final_state.pins[0, DIRECT]


def never_publish_what_is_due(run: Scenario) -> None:
    run.final_state.pins[0, FUTURE] = [
        run.final_state.pins[0, FUTURE][0]._replace(state="scheduled")
    ]


def announce_no_pin(run: Scenario) -> None:
    run.final_state.published["pin-2"] = 0


def announce_no_schedule(run: Scenario) -> None:
    run.final_state.scheduled["pin-l"] = 0


def announce_no_job(run: Scenario) -> None:
    del run.final_state.job_events[JOB]


def double_an_import(run: Scenario) -> None:
    put_job(
        run.final_state,
        "job-1-again",
        run.final_state.jobs[JOB].counters,
        run.final_state.jobs[JOB].results,
    )


def double_a_pin(run: Scenario) -> None:
    run.final_state.pins[0, SECOND].append(
        Pin("pin-2-again", OTHER_JOB, 2, "published", scheduled=False)
    )


def create_a_key_twice(run: Scenario) -> None:
    run.final_state.jobs[OTHER_JOB].results[1] = created(2, "pin-2", SECOND)


def create_what_a_direct_call_created(run: Scenario) -> None:
    run.history.pins.append(SinglePin(0, FIRST, RequestOutcome.ACCEPTED, "pin-1", was_created=True))


def keep_what_was_refused(run: Scenario) -> None:
    run.history.submissions[0].outcome = RequestOutcome.REFUSED


def keep_a_part(run: Scenario) -> None:
    run.history.submissions[1].rows.append(Row("key-4", Expected.PUBLISHED))


def know_a_job_of_nobody(run: Scenario) -> None:
    put_job(
        run.final_state,
        "job-x",
        Counters("completed", 1, 1, 1, 0, 0),
        [created(1, "pin-x", "first-x")],
    )


def hide_a_job(run: Scenario) -> None:
    run.final_state.stored_jobs["job-h"] = Counters("queued", 1, 0, 0, 0, 0)


def accept_under_another_id(run: Scenario) -> None:
    run.history.submissions[0].job_id = OTHER_JOB


def fail_a_good_row(run: Scenario) -> None:
    run.final_state.jobs[JOB].results[1] = (
        run.final_state.jobs[JOB]
        .results[2]
        ._replace(row_number=2, key=SECOND, error_code="internal_error")
    )


def publish_a_bad_row(run: Scenario) -> None:
    run.final_state.jobs[JOB].results[2] = created(3, "pin-3", "key-3")


def swap_rows(run: Scenario) -> None:
    one, two, *_ = results = run.final_state.jobs[JOB].results
    results[:2] = [one._replace(key=two.key), two._replace(key=one.key)]


def name_another_pin(run: Scenario) -> None:
    run.final_state.jobs[OTHER_JOB].results[1] = (
        run.final_state.jobs[OTHER_JOB].results[1]._replace(pin="pin-1")
    )


def take_the_origin_away(run: Scenario) -> None:
    run.final_state.pins[0, SECOND] = [
        run.final_state.pins[0, SECOND][0]._replace(job_id=OTHER_JOB, row_number=2)
    ]


def publish_from_nowhere(run: Scenario) -> None:
    put_pin(run.final_state, "key-y", Pin("pin-y", None, None, "published", scheduled=False))


def let_a_counter_fall(run: Scenario) -> None:
    run.history.polls[JOB].insert(0, Poll(Counters("processing", 3, 2, 1, 0, 1)))


def change_after_the_end(run: Scenario) -> None:
    run.history.polls[JOB][-1] = Poll(Counters("completed_with_errors", 3, 3, 1, 1, 1))


def count_wrongly(run: Scenario) -> None:
    run.final_state.jobs[JOB] = run.final_state.jobs[JOB]._replace(
        counters=Counters("completed_with_errors", 3, 3, 1, 1, 1)
    )


def count_otherwise_in_the_database(run: Scenario) -> None:
    run.final_state.stored_results[JOB]["created"] = 1


def poll_what_does_not_add_up(run: Scenario) -> None:
    run.history.polls[JOB].insert(0, Poll(Counters("processing", 3, 1, 0, 0, 0)))


def create_the_later_of_equal_keys(run: Scenario) -> None:
    run.history.submissions[0].rows[2] = Row(FIRST, Expected.PUBLISHED)
    run.final_state.jobs[JOB].results[2] = created(3, "pin-1", FIRST)


def announce_a_pin_that_is_not(run: Scenario) -> None:
    run.final_state.announce("pin-z:published", Announcement(b"pin", (0, "key-z")))


def announce_other_counters(run: Scenario) -> None:
    run.final_state.job_events[JOB] = [Counters("completed", 3, 3, 3, 0, 0)]


def bury_a_good_record(run: Scenario) -> None:
    run.final_state.dead_letters["invalid_record"] = 1


def bury_too_little(run: Scenario) -> None:
    run.history.submissions[1].reused = RequestOutcome.ACCEPTED


def announce_a_pin_differently(run: Scenario) -> None:
    run.final_state.announce(
        "pin-1:published", Announcement(b"another board", (0, FIRST), (JOB, 1))
    )


def announce_a_job_differently(run: Scenario) -> None:
    run.final_state.announce(f"{JOB}:completed", Announcement(b"another message"))


def announce_another_origin(run: Scenario) -> None:
    run.final_state.announcements["pin-1:published"] = [
        Announcement(b"pin", (0, FIRST), (OTHER_JOB, 1))
    ]


def find_no_job_that_was_accepted(run: Scenario) -> None:
    run.history.absences.append(Absence(JOB, "404", sent_at=1, answered_at=2))


def see_a_row_change(run: Scenario) -> None:
    run.history.record_results(JOB, [existing(1, "pin-1", FIRST)])
    run.history.record_results(JOB, run.final_state.jobs[JOB].results)


def see_a_row_that_becomes_another(run: Scenario) -> None:
    run.history.record_results(JOB, [existing(1, "pin-1", FIRST)])


def answer_with_an_error(run: Scenario) -> None:
    run.history.unexpected_answers.append("/v1/pins answered 500")


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
DUPLICATES = [double_an_import, double_a_pin, create_a_key_twice, create_what_a_direct_call_created]
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


def effects_of(corrupt: Corruption) -> set[Effect]:
    run = consistent_run()
    corrupt(run)
    return {violation.effect for violation in check(run.history, run.final_state)}


def test_what_agrees_is_accepted() -> None:
    run = consistent_run()
    assert check(run.history, run.final_state) == []


@pytest.mark.parametrize("corrupt", LOSSES)
def test_a_loss_is_found(corrupt: Corruption) -> None:
    assert Effect.LOST in effects_of(corrupt)


@pytest.mark.parametrize("corrupt", DUPLICATES)
def test_a_doubling_is_found(corrupt: Corruption) -> None:
    assert Effect.DUPLICATED in effects_of(corrupt)


@pytest.mark.parametrize("corrupt", OTHERS)
def test_whatever_else_is_wrong_is_found(corrupt: Corruption) -> None:
    assert effects_of(corrupt)


def test_an_import_whose_answer_was_lost_may_stand_or_not() -> None:
    run = consistent_run()
    run.history.submissions[0].outcome = RequestOutcome.UNKNOWN
    run.history.submissions.append(
        Submission(0, Channel.JSON, [Row("first-9", Expected.PUBLISHED)], RequestOutcome.UNKNOWN)
    )
    assert check(run.history, run.final_state) == []
