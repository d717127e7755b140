"""The checker accepts a consistent run and finds every corruption of it."""

from collections.abc import Callable

import pytest

from tests.tools.chaos.checker import check
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
from tests.tools.chaos.violations import Effect
from tests.unit.chaos.scenarios import (
    DIRECT_KEY,
    FIRST_KEY,
    FUTURE_KEY,
    JOB,
    OTHER_JOB,
    SECOND_KEY,
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


def never_complete_a_job(run: Scenario) -> None:
    run.final_state.jobs[JOB] = run.final_state.jobs[JOB]._replace(completed=False)


def lose_a_publication(run: Scenario) -> None:
    del run.final_state.pins[0, FIRST_KEY]


def lose_a_direct_pin(run: Scenario) -> None:
    del run.final_state.pins[0, DIRECT_KEY]


def never_publish_a_due_pin(run: Scenario) -> None:
    run.final_state.pins[0, FUTURE_KEY] = [
        run.final_state.pins[0, FUTURE_KEY][0]._replace(state="scheduled")
    ]


def do_not_announce_a_pin(run: Scenario) -> None:
    run.final_state.published["pin-2"] = 0


def do_not_announce_a_schedule(run: Scenario) -> None:
    run.final_state.scheduled["pin-l"] = 0


def do_not_announce_a_job(run: Scenario) -> None:
    del run.final_state.job_events[JOB]


def duplicate_an_import(run: Scenario) -> None:
    put_job(
        run.final_state,
        "job-1-again",
        run.final_state.jobs[JOB].counters,
        run.final_state.jobs[JOB].results,
    )


def duplicate_a_pin(run: Scenario) -> None:
    run.final_state.pins[0, SECOND_KEY].append(
        Pin("pin-2-again", OTHER_JOB, 2, "published", scheduled=False)
    )


def create_a_key_twice(run: Scenario) -> None:
    run.final_state.jobs[OTHER_JOB].results[1] = created(2, "pin-2", SECOND_KEY)


def create_a_key_by_a_row_and_a_direct_call(run: Scenario) -> None:
    run.history.pins.append(
        SinglePin(0, FIRST_KEY, RequestOutcome.ACCEPTED, "pin-1", was_created=True)
    )


def store_a_refused_import(run: Scenario) -> None:
    run.history.submissions[0].outcome = RequestOutcome.REFUSED


def store_an_import_in_part(run: Scenario) -> None:
    run.history.submissions[1].rows.append(Row("key-4", Expected.PUBLISHED))


def add_a_job_without_a_submission(run: Scenario) -> None:
    put_job(
        run.final_state,
        "job-x",
        Counters("completed", 1, 1, 1, 0, 0),
        [created(1, "pin-x", "first-x")],
    )


def hide_a_job_of_the_database(run: Scenario) -> None:
    run.final_state.stored_jobs["job-h"] = Counters("queued", 1, 0, 0, 0, 0)


def store_a_job_with_another_id_than_answered(run: Scenario) -> None:
    run.history.submissions[0].job_id = OTHER_JOB


def fail_a_valid_row(run: Scenario) -> None:
    run.final_state.jobs[JOB].results[1] = (
        run.final_state.jobs[JOB]
        .results[2]
        ._replace(row_number=2, key=SECOND_KEY, error_code="internal_error")
    )


def publish_an_invalid_row(run: Scenario) -> None:
    run.final_state.jobs[JOB].results[2] = created(3, "pin-3", "key-3")


def swap_rows(run: Scenario) -> None:
    first, second, *_ = results = run.final_state.jobs[JOB].results
    results[:2] = [first._replace(key=second.key), second._replace(key=first.key)]


def name_another_pin_in_a_result(run: Scenario) -> None:
    run.final_state.jobs[OTHER_JOB].results[1] = (
        run.final_state.jobs[OTHER_JOB].results[1]._replace(pin="pin-1")
    )


def change_the_origin_of_a_pin(run: Scenario) -> None:
    run.final_state.pins[0, SECOND_KEY] = [
        run.final_state.pins[0, SECOND_KEY][0]._replace(job_id=OTHER_JOB, row_number=2)
    ]


def publish_a_pin_without_an_origin(run: Scenario) -> None:
    put_pin(run.final_state, "key-y", Pin("pin-y", None, None, "published", scheduled=False))


def let_a_counter_fall(run: Scenario) -> None:
    run.history.polls[JOB].insert(0, Poll(Counters("processing", 3, 2, 1, 0, 1)))


def change_a_job_after_its_end(run: Scenario) -> None:
    run.history.polls[JOB][-1] = Poll(Counters("completed_with_errors", 3, 3, 1, 1, 1))


def count_results_wrongly(run: Scenario) -> None:
    run.final_state.jobs[JOB] = run.final_state.jobs[JOB]._replace(
        counters=Counters("completed_with_errors", 3, 3, 1, 1, 1)
    )


def count_differently_in_the_database(run: Scenario) -> None:
    run.final_state.stored_results[JOB]["created"] = 1


def poll_counters_that_do_not_add_up(run: Scenario) -> None:
    run.history.polls[JOB].insert(0, Poll(Counters("processing", 3, 1, 0, 0, 0)))


def create_the_second_of_equal_keys(run: Scenario) -> None:
    run.history.submissions[0].rows[2] = Row(FIRST_KEY, Expected.PUBLISHED)
    run.final_state.jobs[JOB].results[2] = created(3, "pin-1", FIRST_KEY)


def announce_a_pin_that_does_not_exist(run: Scenario) -> None:
    run.final_state.announce("pin-z:published", Announcement(b"pin", (0, "key-z")))


def announce_a_job_with_other_counters(run: Scenario) -> None:
    run.final_state.job_events[JOB] = [Counters("completed", 3, 3, 3, 0, 0)]


def dead_letter_a_valid_record(run: Scenario) -> None:
    run.final_state.dead_letters["invalid_record"] = 1


def dead_letter_no_reused_request_id(run: Scenario) -> None:
    run.history.submissions[1].reused = RequestOutcome.ACCEPTED


def announce_a_pin_twice_with_different_contents(run: Scenario) -> None:
    run.final_state.announce(
        "pin-1:published", Announcement(b"another board", (0, FIRST_KEY), (JOB, 1))
    )


def announce_a_job_twice_with_different_contents(run: Scenario) -> None:
    run.final_state.announce(f"{JOB}:completed", Announcement(b"another message"))


def announce_a_pin_with_another_origin(run: Scenario) -> None:
    run.final_state.announcements["pin-1:published"] = [
        Announcement(b"pin", (0, FIRST_KEY), (OTHER_JOB, 1))
    ]


def answer_404_for_an_accepted_job(run: Scenario) -> None:
    run.history.absences.append(Absence(JOB, "404", sent_at=1, answered_at=2))


def change_a_result_between_polls(run: Scenario) -> None:
    run.history.record_results(JOB, [existing(1, "pin-1", FIRST_KEY)])
    run.history.record_results(JOB, run.final_state.jobs[JOB].results)


def change_a_result_after_the_last_poll(run: Scenario) -> None:
    run.history.record_results(JOB, [existing(1, "pin-1", FIRST_KEY)])


def answer_with_an_error(run: Scenario) -> None:
    run.history.unexpected_answers.append("/v1/pins answered 500")


LOSSES = [
    lose_an_accepted_import,
    lose_a_row,
    never_complete_a_job,
    lose_a_publication,
    lose_a_direct_pin,
    never_publish_a_due_pin,
    do_not_announce_a_pin,
    do_not_announce_a_schedule,
    do_not_announce_a_job,
]
DUPLICATES = [
    duplicate_an_import,
    duplicate_a_pin,
    create_a_key_twice,
    create_a_key_by_a_row_and_a_direct_call,
]
OTHERS = [
    store_a_refused_import,
    store_an_import_in_part,
    add_a_job_without_a_submission,
    hide_a_job_of_the_database,
    store_a_job_with_another_id_than_answered,
    fail_a_valid_row,
    publish_an_invalid_row,
    swap_rows,
    name_another_pin_in_a_result,
    change_the_origin_of_a_pin,
    publish_a_pin_without_an_origin,
    let_a_counter_fall,
    change_a_job_after_its_end,
    count_results_wrongly,
    count_differently_in_the_database,
    poll_counters_that_do_not_add_up,
    create_the_second_of_equal_keys,
    announce_a_pin_that_does_not_exist,
    announce_a_job_with_other_counters,
    dead_letter_a_valid_record,
    dead_letter_no_reused_request_id,
    announce_a_pin_twice_with_different_contents,
    announce_a_job_twice_with_different_contents,
    announce_a_pin_with_another_origin,
    answer_404_for_an_accepted_job,
    change_a_result_between_polls,
    change_a_result_after_the_last_poll,
    answer_with_an_error,
]


def find_effects(corrupt: Corruption) -> set[Effect]:
    run = consistent_run()
    corrupt(run)
    return {violation.effect for violation in check(run.history, run.final_state)}


def test_a_consistent_run_has_no_violations() -> None:
    run = consistent_run()
    assert check(run.history, run.final_state) == []


@pytest.mark.parametrize("corrupt", LOSSES)
def test_the_history_checker_reports_a_forged_loss(corrupt: Corruption) -> None:
    assert Effect.LOST in find_effects(corrupt)


@pytest.mark.parametrize("corrupt", DUPLICATES)
def test_the_history_checker_reports_a_forged_duplicate(corrupt: Corruption) -> None:
    assert Effect.DUPLICATED in find_effects(corrupt)


@pytest.mark.parametrize("corrupt", OTHERS)
def test_the_history_checker_reports_any_other_forged_error(corrupt: Corruption) -> None:
    assert find_effects(corrupt)


def test_an_import_without_an_answer_may_exist_or_not() -> None:
    run = consistent_run()
    run.history.submissions[0].outcome = RequestOutcome.UNKNOWN
    run.history.submissions.append(
        Submission(0, Channel.JSON, [Row("first-9", Expected.PUBLISHED)], RequestOutcome.UNKNOWN)
    )
    assert check(run.history, run.final_state) == []
