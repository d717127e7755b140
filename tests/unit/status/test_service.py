"""How a job is asked for: at once, right after the 202, when it has ended; and what is said when it can't be known."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.ingest.identity import new_job_id
from services.status import service
from services.status.service import JobQueries, is_young, parse_prefer_wait
from shared.errors import RequestRefused

WORKSPACE = uuid4()
NOW = datetime.now(UTC)


class Jobs:
    """Answers what stands in `answers`, one after the other; the last one for ever."""

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def job(self, _workspace_id: UUID, _job_id: UUID, *, with_results: bool = True) -> dict[str, Any] | None:  # noqa: ARG002
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Folds:
    """Has folded all that stood at any moment until now, or not. Its clock is the database's."""

    def __init__(self, *, past: bool = True) -> None:
        self._past = past

    async def now(self) -> datetime:
        return NOW - timedelta(hours=1)

    async def has_folded(self, _job_id: UUID, moment: datetime) -> bool:
        return self._past and moment == await self.now()


RUNNING = {"completed_at": None}
ENDED = {"completed_at": NOW}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "APPEARANCE_SECONDS", 0.2)
    monkeypatch.setattr(service, "PROGRESS_SECONDS", 0.2)


async def refusal(queries: JobQueries, job_id: UUID) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        await queries.get(WORKSPACE, job_id)
    return refused.value


async def test_a_job_that_is_there_is_answered_at_once() -> None:
    jobs = Jobs(RUNNING)
    assert await JobQueries(jobs, Folds()).get(WORKSPACE, uuid4()) == RUNNING
    assert jobs.asked == 1


async def test_a_young_job_is_waited_for() -> None:
    assert await JobQueries(Jobs(None, None, RUNNING), Folds()).get(WORKSPACE, new_job_id(datetime.now(UTC))) == RUNNING


async def test_a_young_job_that_does_not_come_is_not_found() -> None:
    assert (await refusal(JobQueries(Jobs(None), Folds()), new_job_id(datetime.now(UTC)))).code == "not_found"


async def test_a_job_folded_at_the_last_moment_is_answered() -> None:
    class AppearsWhenPast(Folds):
        async def has_folded(self, _job_id: UUID, _moment: datetime) -> bool:
            jobs.answers = [RUNNING]
            return True

    jobs = Jobs(None)
    assert await JobQueries(jobs, AppearsWhenPast()).get(WORKSPACE, new_job_id(datetime.now(UTC))) == RUNNING


async def test_what_is_learnt_of_the_folds_a_moment_later_counts() -> None:
    class LearntLater(Folds):
        asked = 0

        async def has_folded(self, _job_id: UUID, _moment: datetime) -> bool:
            self.asked += 1
            return self.asked > 2

    assert (await refusal(JobQueries(Jobs(None), LearntLater()), new_job_id(datetime.now(UTC)))).code == "not_found"


async def test_while_the_fold_lags_a_young_job_is_not_said_to_be_absent() -> None:
    refused = await refusal(JobQueries(Jobs(None), Folds(past=False)), new_job_id(datetime.now(UTC)))
    assert (refused.code, refused.status) == ("status_behind", 503)
    assert "Retry-After" in refused.headers


@pytest.mark.parametrize("job_id", [uuid4(), new_job_id(NOW - timedelta(minutes=6))], ids=["no-v7", "old"])
async def test_any_other_unknown_job_is_not_found_at_once(job_id: UUID) -> None:
    jobs = Jobs(None)
    assert (await refusal(JobQueries(jobs, Folds()), job_id)).code == "not_found"
    assert jobs.asked == 1


async def test_prefer_wait_waits_for_the_end() -> None:
    queries = JobQueries(Jobs(RUNNING, RUNNING, ENDED), Folds())
    assert await queries.get(WORKSPACE, uuid4(), wait_seconds=5) == ENDED


async def test_prefer_wait_gives_up_with_the_job_as_it_is() -> None:
    assert await JobQueries(Jobs(RUNNING), Folds()).get(WORKSPACE, uuid4(), wait_seconds=0.1) == RUNNING


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], 0),
        (["wait=5"], 5),
        (["respond-async, wait=7"], 7),
        (["respond-async", "Wait = 8; x=y"], 8),
        (['wait="9"'], 9),
        (["wait=3600"], 30),
        (["wait=99999999999999999999"], 30),
        (["wait=-1"], 0),
        (["wait=soon"], 0),
        (["wait"], 0),
        (["wait=\u0663"], 0),
    ],
)
def test_prefer_is_read_as_rfc_7240_says_and_never_refuses(values: list[str], seconds: int) -> None:
    assert parse_prefer_wait(values) == seconds


def test_young_is_five_minutes_either_way() -> None:
    ages = [timedelta(minutes=minutes) for minutes in (-6, -4, 0, 4, 6)]
    assert [is_young(new_job_id(NOW - age), NOW) for age in ages] == [False, True, True, True, False]
