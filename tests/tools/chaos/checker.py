"""Compares the history of a run with its final state and returns violations.

It does no I/O, so unit tests run it on constructed histories.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise, zip_longest

from shared.contract.events import OnExisting
from tests.tools.chaos.campaign_model import check_campaign
from tests.tools.chaos.final_state import Announcement, FinalState, Job, Pin
from tests.tools.chaos.history import (
    Counters,
    Expected,
    History,
    Key,
    Poll,
    RequestOutcome,
    Result,
    Row,
    SinglePin,
    Submission,
    TouchKind,
    TouchStep,
    Workspace,
)
from tests.tools.chaos.violations import Effect, Violation, Violations

Marker = tuple[Workspace, str, str | None]
"""A workspace, the key of an import's first row, and the import's parent."""
Origin = tuple[str | None, int | None]
"""The job and the number of a row."""
CANCELED = "canceled"
FAILED_IN_INGEST = {Expected.INVALID}
"""Rows that have failed before a cancellation can reach them."""
TERMINAL = {"completed", "completed_with_errors", "failed"}


class Evidence:
    """The history and the final state, with indexes for the checks."""

    def __init__(self, history: History, final_state: FinalState) -> None:
        self.history = history
        self.final_state = final_state
        self.jobs_by_marker = _group_jobs_by_marker(final_state)
        self.releases = _find_releases(history)
        self.forgotten_pins = {
            key for restore in history.restores for key in restore.forgotten_pins
        }
        """Keys whose direct pin a restore has lost. Rows stay `existing` because of such a pin."""
        self.times_forgotten = Counter(
            key for restore in history.restores for key in restore.forgotten_requests
        )
        """The number of restores that lost a request id, by request id."""

    def find_jobs(self, submission: Submission) -> list[str]:
        marker = (submission.workspace, submission.marker, submission.parent_id)
        return self.jobs_by_marker.get(marker, [])

    def submitted_jobs(self) -> Iterator[tuple[Submission, str, Job]]:
        """Yields each submission with its job; several times if it has several jobs."""
        for submission in self.history.submissions:
            for job_id in self.find_jobs(submission):
                yield submission, job_id, self.final_state.jobs[job_id]

    def find_rows(self, submission: Submission, job: Job) -> list[Row]:
        """Returns the rows of the job: all, or only the first if the job is of the second body."""
        return submission.rows[:1] if self.is_reuse(submission, job) else submission.rows

    def is_reuse(self, submission: Submission, job: Job) -> bool:
        """Returns whether the job is certainly that of the second body with the same request id."""
        return (
            submission.reused is not None and job.counters.total == 1 and len(submission.rows) > 1
        )

    def may_be_lost(self, pin: SinglePin) -> bool:
        """Returns whether a restore may have lost the pin of a direct call."""
        return any(restore.may_have_lost(pin) for restore in self.history.restores)


def check(history: History, final_state: FinalState) -> list[Violation]:
    evidence = Evidence(history, final_state)
    return [violation for rule in RULES for violation in rule(evidence)]


def accepted_means_durable(evidence: Evidence) -> Violations:
    """An accepted import is one complete job, and a refused import is none.

    With an unknown outcome it is either. Each restore that loses the request id allows one more
    job.
    """
    for submission in evidence.history.submissions:
        jobs = evidence.find_jobs(submission)
        allowed = 1 + evidence.times_forgotten[submission.workspace, submission.marker]
        reuses = sum(
            evidence.is_reuse(submission, evidence.final_state.jobs[job_id]) for job_id in jobs
        )
        name = (
            f"{submission.channel} import {submission.marker}, {submission.outcome} "
            f"({submission.answer})"
        )
        if len(jobs) > allowed or reuses > allowed - 1:
            yield Violation("invariant 1", f"{name}: there are the jobs {jobs}", Effect.DUPLICATED)
        elif jobs and submission.outcome is RequestOutcome.REFUSED:
            yield Violation("invariant 1", f"{name}: there is the job {jobs[0]}")
        elif len(jobs) == reuses and submission.outcome is RequestOutcome.ACCEPTED:
            yield Violation("invariant 1", f"{name}: there is no job", Effect.LOST)
        elif len(submission.named_jobs) > 1:
            named = sorted(submission.named_jobs)
            yield Violation("invariant 1", f"{name}: answers name {named}", Effect.DUPLICATED)
        elif jobs and submission.job_id and jobs != [submission.job_id]:
            yield Violation(
                "invariant 1",
                f"{name}: the answer names job {submission.job_id}, but there is {jobs[0]}",
            )
    for _, job_id, job in evidence.submitted_jobs():
        if not job.completed or job.counters.status not in TERMINAL:
            yield Violation("invariant 2", f"job {job_id} never ended: {job.counters}", Effect.LOST)


def a_forgotten_request_is_not_published_twice(evidence: Evidence) -> Violations:
    """A lost request whose job had ended may become a second job with `existing` rows only.

    Exception: keys of lost direct pins may be created.
    """
    submissions = {
        (submission.workspace, submission.marker): submission
        for submission in evidence.history.submissions
    }
    earlier_jobs: dict[Key, set[str]] = defaultdict(set)
    for restore in evidence.history.restores:
        for key, (first_job, has_ended) in restore.forgotten_requests.items():
            earlier_jobs[key].add(first_job)
            if not has_ended or (submission := submissions.get(key)) is None:
                continue
            if first_job not in evidence.final_state.jobs:
                yield Violation(
                    "invariant 1",
                    f"job {first_job} had ended before a restore, and is gone",
                    Effect.LOST,
                )
            for job_id in set(evidence.find_jobs(submission)) - earlier_jobs[key]:
                for result in evidence.final_state.jobs[job_id].results:
                    if (
                        result.status == "created"
                        and (submission.workspace, str(result.key)) not in evidence.forgotten_pins
                    ):
                        what = (
                            f"row {result.row_number} of job {job_id} was created, although job "
                            f"{first_job} is the same import"
                        )
                        yield Violation("invariant 3", what, Effect.DUPLICATED)


def every_job_has_a_submission(evidence: Evidence) -> Violations:
    """Each job belongs to a submission."""
    submitted = {job_id for _, job_id, _ in evidence.submitted_jobs()}
    for job_id in evidence.final_state.jobs.keys() - submitted:
        yield Violation(
            "invariant 1",
            f"job {job_id} has no submission: {evidence.final_state.jobs[job_id].counters}",
        )
    for job_id in evidence.final_state.stored_jobs.keys() - evidence.final_state.jobs.keys():
        yield Violation("invariant 1", f"job {job_id} is in the database, but not in the API")


def each_row_settles_once(evidence: Evidence) -> Violations:
    for submission, job_id, job in evidence.submitted_jobs():
        rows, numbers = (
            evidence.find_rows(submission, job),
            [result.row_number for result in job.results],
        )
        if numbers != list(range(1, len(rows) + 1)):
            yield Violation(
                "invariant 2",
                f"job {job_id} has {len(rows)} rows, but results for {_shorten(numbers)}",
                Effect.LOST,
            )
            continue
        for sent, result in zip(rows, job.results, strict=True):
            row = sent
            is_canceled = (result.status, result.error_code) == ("failed", CANCELED)
            if is_canceled and submission.is_canceled and row.expected not in FAILED_IN_INGEST:
                row = row._replace(expected=Expected.CANCELED)
            yield from _check_result(job_id, row, result)


def _check_result(job_id: str, row: Row, result: Result) -> Violations:
    name = f"row {result.row_number} of job {job_id}"
    if result.key != row.key:
        yield Violation("invariant 7", f"{name} has the key {result.key}, but {row.key} was sent")
    if row.expected is Expected.PUBLISHED:
        if result.status not in {"created", "existing"}:
            yield Violation("invariant 9", f"{name} failed ({result.error_code}), but it is valid")
    elif (result.status, result.error_code) != ("failed", row.expected.value):
        yield Violation(
            "invariant 2",
            f"{name} is {result.status} ({result.error_code}), not {row.expected.value}",
        )


def each_key_is_published_once(evidence: Evidence) -> Violations:
    """Each created key has one pin in each generation, and one row or call that created it.

    Further calls may have created it only if a restore lost their pins.
    """
    rows, calls = _creating_rows(evidence), _creating_calls(evidence)
    for key in rows.keys() | calls.keys():
        lasting = [call for call in calls[key] if not evidence.may_be_lost(call)]
        creators = [*rows[key], *("a direct call" for _ in lasting)]
        if len(creators) > max(1, len(evidence.final_state.pins.get(key, ()))):
            yield Violation(
                "invariant 3",
                f"{key} was created {len(creators)} times: {creators}",
                Effect.DUPLICATED,
            )
        for earlier, later in pairwise(calls[key]):
            if not any(
                restore.may_have_lost(earlier) and restore.replaced_at < later.answered_at
                for restore in evidence.history.restores
            ):
                yield Violation(
                    "invariant 3",
                    f"{key} was created by two direct calls without a restore between them",
                    Effect.DUPLICATED,
                )
        if creators and key not in evidence.final_state.pins:
            yield Violation(
                "invariant 3", f"{key} was created, but is not in the database", Effect.LOST
            )
    for key, pins in evidence.final_state.pins.items():
        live = [pin for pin in pins if not pin.deleted]
        if len(live) > 1:
            yield Violation("invariant 3", f"{key} has {len(live)} pins: {live}", Effect.DUPLICATED)


def each_generation_follows_a_release(evidence: Evidence) -> Violations:
    """A key's generations are numbered from 0, and each but the first follows a release.

    Only an undo, a direct call or a row that revives the key deletes a pin. The row under the first
    id says who has the key.
    """
    revivals, deletions = _find_revivals(evidence), _find_deletions(evidence)
    for key, pins in evidence.final_state.pins.items():
        ordered = sorted(pins, key=lambda pin: pin.generation)
        if [pin.generation for pin in ordered] != list(range(len(ordered))):
            yield Violation("invariant 3", f"{key} has gaps in its generations: {ordered}")
            continue
        for pin, later in zip_longest(ordered, ordered[1:]):
            is_undone = (pin.job_id, pin.row_number) in evidence.releases
            is_revived = later is not None and (later.job_id, later.row_number) in revivals
            if later is not None and not (pin.deleted and (is_undone or is_revived)):
                what = f"{key} has a pin after {pin}, which nobody released: {later}"
                yield Violation("invariant 3", what, Effect.DUPLICATED)
            elif pin.deleted and not (is_undone or is_revived or key in deletions):
                what = f"{key} has a pin that nobody deleted: {pin}"
                yield Violation("undo", what, Effect.LOST)
            elif is_undone and not pin.deleted:
                yield Violation("undo", f"{key} was undone, but its pin is not deleted: {pin}")
        yield from _check_holder(evidence, key, ordered)


def _check_holder(evidence: Evidence, key: Key, ordered: list[Pin]) -> Violations:
    first, last = ordered[0], ordered[-1]
    is_released = (last.job_id, last.row_number) in evidence.releases
    current = None if is_released or len(ordered) == 1 else last.pin_id
    expected = (is_released or len(ordered) > 1, current, last.generation)
    if (first.released, first.current, first.highest) != expected:
        yield Violation(
            "invariant 3",
            f"{key} has the holder {(first.released, first.current, first.highest)}, not "
            f"{expected}",
        )


def _find_deletions(evidence: Evidence) -> set[Key]:
    """Finds the keys with a pin that a direct call deleted."""
    return {
        (campaign.workspace, step.key)
        for campaign in evidence.history.campaigns
        for step in campaign.steps
        if isinstance(step, TouchStep) and step.kind is TouchKind.DELETE
    }


def _find_revivals(evidence: Evidence) -> set[Origin]:
    """Finds the rows that were created by an import with `on_existing=revive`."""
    return {
        (job_id, result.row_number)
        for submission, job_id, job in evidence.submitted_jobs()
        if submission.on_existing is OnExisting.REVIVE
        for result in job.results
        if result.status == "created"
    }


def _creating_rows(evidence: Evidence) -> dict[Key, list[str]]:
    """Finds the rows with the result `created`, by key."""
    rows: dict[Key, list[str]] = defaultdict(list)
    for submission, job_id, job in evidence.submitted_jobs():
        for result in job.results:
            if result.status == "created":
                rows[submission.workspace, str(result.key)].append(f"{job_id}/{result.row_number}")
    return rows


def _creating_calls(evidence: Evidence) -> dict[Key, list[SinglePin]]:
    """Finds the direct calls whose answer says that they created a pin, by key, in their order."""
    calls: dict[Key, list[SinglePin]] = defaultdict(list)
    for pin in sorted(evidence.history.pins, key=lambda pin: pin.sent_at):
        if pin.was_created:
            calls[pin.workspace, pin.key].append(pin)
    return calls


def outcomes_agree_with_the_store(evidence: Evidence) -> Violations:
    """The row that is the origin of a pin is `created`, and all other rows of the key `existing`.

    Both name a pin of the key: the row's own, or that of any generation. A row stays `existing` if
    a restore lost the direct pin before it.
    """
    for submission, job_id, job in evidence.submitted_jobs():
        for result in job.results:
            if result.status == "failed":
                continue
            name = f"row {result.row_number} of job {job_id}"
            key = submission.workspace, str(result.key)
            pins = evidence.final_state.pins.get(key, ())
            origin = job_id, result.row_number
            own = next((pin for pin in pins if (pin.job_id, pin.row_number) == origin), None)
            named = next((pin for pin in pins if pin.pin_id == result.pin), None)
            pin = own or named or next(iter(pins), None)
            if pin is None and result.status == "existing" and key in evidence.forgotten_pins:
                continue
            if pin is None:
                yield Violation(
                    "invariant 3",
                    f"{name} is {result.status}, but its key {result.key} is not in the database",
                    Effect.LOST,
                )
            elif result.pin != pin.pin_id:
                yield Violation(
                    "invariant 4",
                    f"{name} names the pin {result.pin}, but the database has {pin.pin_id}",
                )
            elif (result.status == "created") != (own is not None):
                yield Violation(
                    "invariant 4",
                    f"{name} is {result.status}, but the pin's origin is "
                    f"{pin.job_id}/{pin.row_number}",
                )


def direct_pins_are_stored(evidence: Evidence) -> Violations:
    """Each direct pin is stored with the id in the answer, unless a restore may have lost it."""
    for single in evidence.history.pins:
        stored = {
            pin.pin_id for pin in evidence.final_state.pins.get((single.workspace, single.key), ())
        }
        if not stored and evidence.may_be_lost(single):
            continue
        if single.outcome is RequestOutcome.ACCEPTED and single.pin_id not in stored:
            yield Violation(
                "invariant 3",
                f"the answer for {single.key} names pin {single.pin_id}, which is not stored",
                Effect.LOST,
            )


def every_pin_has_an_origin(evidence: Evidence) -> Violations:
    """Each stored pin comes from a row or a call of a client."""
    created = {
        (job_id, result.row_number)
        for _, job_id, job in evidence.submitted_jobs()
        for result in job.results
        if result.status == "created"
    }
    called = {
        (pin.workspace, pin.key)
        for pin in evidence.history.pins
        if pin.outcome is not RequestOutcome.REFUSED
    }
    for key, pins in evidence.final_state.pins.items():
        for pin in pins:
            if pin.job_id is None and key not in called:
                yield Violation("invariant 3", f"{key} comes from a direct call that nobody sent")
            elif pin.job_id is not None and (pin.job_id, pin.row_number) not in created:
                yield Violation(
                    "invariant 4",
                    f"{key} has the origin {pin.job_id}/{pin.row_number}, which is not `created`",
                )


def counters_equal_results(evidence: Evidence) -> Violations:
    for job_id, job in evidence.final_state.jobs.items():
        counted = _count_results(job)
        if job.counters[1:] != counted:
            yield Violation(
                "invariant 5",
                f"job {job_id} has the counters {job.counters[1:]}, but its results give {counted}",
            )
        if job.completed and job.counters.status != _expected_status(job.counters):
            yield Violation(
                "invariant 5", f"job {job_id} is {job.counters.status} with {job.counters}"
            )
        stored = evidence.final_state.stored_results.get(job_id, Counter())
        in_database = tuple(stored.get(status, 0) for status in ("created", "existing", "failed"))
        if (
            in_database != counted[2:]
            or evidence.final_state.stored_jobs.get(job_id) != job.counters
        ):
            yield Violation(
                "invariant 5",
                f"job {job_id} is {job.counters} in the API, {in_database} in the database",
            )


def counters_only_grow(evidence: Evidence) -> Violations:
    """Counters never fall, except while a restore's recovery is not finished.

    The final counters are not below those of any poll.
    """
    for job_id, polls in evidence.history.polls.items():
        job = evidence.final_state.jobs.get(job_id)
        last = [Poll(job.counters, sent_at=math.inf, answered_at=math.inf)] if job else []
        for earlier, later in combinations([*polls, *last], 2):
            if _has_fallen(earlier.counters, later.counters) and not _is_recovering(
                evidence, earlier, later
            ):
                yield Violation(
                    "invariant 5", f"job {job_id} went from {earlier.counters} to {later.counters}"
                )
        for poll, _, _ in polls:
            if poll.processed != poll.created + poll.existing + poll.failed or (
                poll.status in TERMINAL
            ) != (poll.processed == poll.total):
                yield Violation("invariant 5", f"a poll of job {job_id} got {poll}")


def _has_fallen(before: Counters, after: Counters) -> bool:
    fell = any(new < old for old, new in zip(before[2:], after[2:], strict=True))
    return fell or after.total != before.total or (before.status in TERMINAL and after != before)


def _is_recovering(evidence: Evidence, earlier: Poll, later: Poll) -> bool:
    """Returns whether the second poll may have got an answer from an older Postgres."""
    return any(
        earlier.sent_at < restore.replaced_at < later.answered_at
        and later.sent_at < restore.recovered_at
        for restore in evidence.history.restores
    )


def accepted_jobs_are_found(evidence: Evidence) -> Violations:
    """No poll of an accepted job gets 404, except while a restore's recovery is not finished."""
    for absence in evidence.history.absences:
        if not any(
            restore.replaced_at < absence.answered_at and absence.sent_at < restore.recovered_at
            for restore in evidence.history.restores
        ):
            yield Violation(
                "answers",
                f"job {absence.job_id} was accepted, but a later poll got {absence.answer}",
                Effect.LOST,
            )


def outcomes_are_stable(evidence: Evidence) -> Violations:
    """A row's result never changes between polls, nor until the end."""
    for job_id, earlier, later in evidence.history.contradictions:
        yield Violation("invariant 4", f"a row of job {job_id} went from {earlier} to {later}")
    for job_id, results in evidence.history.results.items():
        job = evidence.final_state.jobs.get(job_id)
        final = {result.row_number: result for result in job.results} if job else {}
        for number, result in results.items():
            if final.get(number) != result:
                yield Violation(
                    "invariant 4",
                    f"a row of job {job_id} was {result} in a poll, but is {final.get(number)}",
                )


def rows_keep_their_order(evidence: Evidence) -> Violations:
    """Only the first of a job's rows with equal keys can be `created`.

    Exception: the first became `existing` because of a direct pin that a restore has lost.
    """
    for submission, job_id, job in evidence.submitted_jobs():
        first: dict[str, int] = {}
        for number, row in enumerate(evidence.find_rows(submission, job), 1):
            if row.expected is Expected.PUBLISHED:
                first.setdefault(row.key, number)
        for result in job.results:
            key = submission.workspace, str(result.key)
            # The key may have been released, or its first row canceled, before the second one
            is_steered = submission.is_canceled or len(evidence.final_state.pins.get(key, ())) > 1
            if key in evidence.forgotten_pins or is_steered:
                continue
            if result.status == "created" and first.get(str(result.key)) != result.row_number:
                yield Violation(
                    "invariant 7",
                    f"job {job_id}: row {result.row_number} was created instead of row "
                    f"{first.get(str(result.key))} with the same key",
                )


def everything_is_announced(evidence: Evidence) -> Violations:
    """Each pin and each job's end is announced at least once, a job with its final counters."""
    final_state = evidence.final_state
    for key, pins in final_state.pins.items():
        for pin in pins:
            yield from _check_announced(key, pin, final_state)
    for job_id, job in final_state.jobs.items():
        announced = final_state.job_events.get(job_id, [])
        if not announced:
            yield Violation(
                "announcements", f"the end of job {job_id} was never announced", Effect.LOST
            )
        elif any(event != job.counters for event in announced):
            yield Violation(
                "announcements",
                f"job {job_id} was announced as {announced}, but is {job.counters}",
            )
    for event_id, announcements in final_state.announcements.items():
        yield from _check_repeated_event(event_id, announcements, evidence)


def _check_repeated_event(
    event_id: str, announcements: list[Announcement], evidence: Evidence
) -> Violations:
    """A repeated event is equal to the first.

    Exception: if a restore lost the direct pin of a key, a second pin may have been announced. The
    stored pin has the origin of one of the events.
    """
    key = announcements[0].key
    if len(announcements) > 1 and key not in evidence.forgotten_pins:
        yield Violation(
            "announcements", f"the event {event_id} has different contents: {announcements}"
        )
    if key is None:
        return
    pins = evidence.final_state.pins.get(key, [])
    if not pins and key not in evidence.forgotten_pins:
        yield Violation("announcements", f"{event_id}: {key} was announced, but has no pin")
    if pins and not any(
        (pin.job_id, pin.row_number) == announcement.origin
        for pin in pins
        for announcement in announcements
    ):
        yield Violation(
            "announcements",
            f"{event_id} was announced with other origins than those of the stored pins: "
            f"{announcements}, {pins}",
        )


def _check_announced(key: Key, pin: Pin, final_state: FinalState) -> Violations:
    if pin.state == "cancelled":
        if final_state.published[pin.pin_id]:
            what = f"{key}: pin {pin.pin_id} is canceled, but was announced as published"
            yield Violation("announcements", what)
    elif pin.state != "published":
        if not pin.is_far:
            yield Violation(
                "invariant 2", f"{key} is still {pin.state}, although it was due", Effect.LOST
            )
    elif not final_state.published[pin.pin_id]:
        yield Violation(
            "announcements",
            f"{key}: the publication of pin {pin.pin_id} was never announced",
            Effect.LOST,
        )
    if pin.scheduled and not final_state.scheduled[pin.pin_id]:
        yield Violation(
            "announcements",
            f"{key}: the schedule of pin {pin.pin_id} was never announced",
            Effect.LOST,
        )


def campaigns_are_exact(evidence: Evidence) -> Violations:
    """Every key of a campaign has what the campaign's steps have made of it."""
    for campaign in evidence.history.campaigns:
        yield from check_campaign(campaign, evidence.final_state)


def dead_letters_are_expected(evidence: Evidence) -> Violations:
    """There are dead letters only for reused request ids.

    There is none if a restore had lost the request id and the second body became a job.
    """
    dead_letters = dict(evidence.final_state.dead_letters)
    reported = dead_letters.pop("request_id_reused", 0)
    reused = [
        submission
        for submission in evidence.history.submissions
        if submission.reused is RequestOutcome.ACCEPTED
    ]
    refused = sum(not _was_reuse_accepted(evidence, submission) for submission in reused)
    if reported < refused:
        yield Violation(
            "invariant 8",
            f"{refused} request ids were reused, but only {reported} are dead letters",
        )
    for code, count in dead_letters.items():
        yield Violation("invariant 8", f"{count} unexpected dead letters with the code {code}")


def _was_reuse_accepted(evidence: Evidence, submission: Submission) -> bool:
    jobs = evidence.find_jobs(submission)
    if not evidence.times_forgotten[submission.workspace, submission.marker]:
        return False
    if len(submission.rows) == 1:  # both bodies have the same rows
        return len(jobs) > 1
    return any(evidence.is_reuse(submission, evidence.final_state.jobs[job_id]) for job_id in jobs)


def no_unexpected_answers(evidence: Evidence) -> Violations:
    for answer in evidence.history.unexpected_answers:
        yield Violation("answers", answer)


RULES: tuple[Callable[[Evidence], Violations], ...] = (
    accepted_means_durable,
    a_forgotten_request_is_not_published_twice,
    every_job_has_a_submission,
    each_row_settles_once,
    each_key_is_published_once,
    each_generation_follows_a_release,
    outcomes_agree_with_the_store,
    direct_pins_are_stored,
    every_pin_has_an_origin,
    counters_equal_results,
    counters_only_grow,
    accepted_jobs_are_found,
    outcomes_are_stable,
    rows_keep_their_order,
    everything_is_announced,
    campaigns_are_exact,
    dead_letters_are_expected,
    no_unexpected_answers,
)


def _group_jobs_by_marker(final_state: FinalState) -> dict[Marker, list[str]]:
    """Groups jobs by their parent and the key of their first row: both identify the submission."""
    jobs: dict[Marker, list[str]] = defaultdict(list)
    for job_id, job in final_state.jobs.items():
        if job.results:
            jobs[job.workspace, str(job.results[0].key), job.parent_id].append(job_id)
    return jobs


def _find_releases(history: History) -> set[Origin]:
    """Finds the rows whose pins were undone."""
    return {
        (undo.job_id, row_number)
        for campaign in history.campaigns
        for undo in campaign.undos()
        for answer in undo.answers
        for row_number, _ in answer.undone
    }


def _count_results(job: Job) -> tuple[int, int, int, int, int]:
    created, existing, failed = (
        sum(result.status == status for result in job.results)
        for status in ("created", "existing", "failed")
    )
    return job.counters.total, created + existing + failed, created, existing, failed


def _expected_status(counters: Counters) -> str:
    if not counters.failed:
        return "completed"
    return "failed" if counters.failed == counters.total else "completed_with_errors"


def _shorten(numbers: list[int]) -> str:
    return f"{numbers[:5]}…{numbers[-3:]} ({len(numbers)})" if len(numbers) > 10 else str(numbers)
