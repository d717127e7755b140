"""How a job is asked for: at once, right after the 202, when it has ended; and what is said of one
that is missing.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.ingest.ids import new_job_id
from services.status import service
from services.status.service import JobQueries, Missing, is_young, parse_prefer_wait
from shared.contract.errors import ApiError

WORKSPACE = uuid4()
NOW = datetime.now(UTC)


class Jobs:
    """Answers what stands in `answers`, one after the other; the last one for ever."""

    def __init__(self, *answers: dict[str, Any] | Missing, replaying: bool = False) -> None:
        self.answers = list(answers)
        self.asked = 0
        self._replaying = replaying

    async def is_replaying(self) -> bool:
        return self._replaying

    async def find_job(
        self,
        _workspace_id: UUID,
        _job_id: UUID,
        *,
        with_results: bool = True,  # noqa: ARG002
    ) -> dict[str, Any] | Missing:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


RUNNING = {"completed_at": None}
ENDED = {"completed_at": NOW}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_FOLD_WAIT_SECONDS", 0.2)


async def refusal(jobs: Jobs, job_id: UUID) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await JobQueries(jobs, Sent()).get(WORKSPACE, job_id)
    return refused.value


class Sent:
    """Ingest, which may have sent every import, or certainly none."""

    def __init__(self, *, may_exist: bool = True) -> None:
        self._may_stand = may_exist

    async def may_exist(self, _job_id: UUID) -> bool:
        return self._may_stand


def young() -> UUID:
    return new_job_id(datetime.now(UTC))


async def test_a_job_that_is_there_is_answered_at_once() -> None:
    jobs = Jobs(RUNNING)
    assert await JobQueries(jobs, Sent()).get(WORKSPACE, uuid4()) == RUNNING
    assert jobs.asked == 1


async def test_a_young_job_that_appears_while_it_is_waited_for_is_answered() -> None:
    jobs = Jobs(Missing.UNKNOWN, Missing.UNKNOWN, RUNNING)
    assert await JobQueries(jobs, Sent()).get(WORKSPACE, young()) == RUNNING


async def test_a_young_job_that_nobody_knows_may_still_come() -> None:
    refused = await refusal(Jobs(Missing.UNKNOWN), young())
    assert (refused.code, refused.status, refused.headers) == (
        "status_behind",
        503,
        {"Retry-After": "2"},
    )
    assert refused.message == (
        "The job is not available yet. Its import may still arrive. Try again: the answer is final "
        "5 minutes after the import."
    )


async def test_invariant_10_a_young_job_that_ingest_has_not_sent_is_not_found_at_once() -> None:
    """As another workspace's: neither the answer nor its time tells them apart."""
    queries = JobQueries(Jobs(Missing.UNKNOWN), Sent(may_exist=False))
    async with asyncio.timeout(1):
        with pytest.raises(ApiError) as refused:
            await queries.get(WORKSPACE, young())
    assert refused.value.code == "not_found"


async def test_a_job_that_is_folded_while_ingest_is_asked_is_answered() -> None:
    queries = JobQueries(Jobs(Missing.UNKNOWN, RUNNING), Sent(may_exist=False))
    assert await queries.get(WORKSPACE, young()) == RUNNING


async def test_invariant_10_a_young_job_of_another_workspace_is_not_found_at_once() -> None:
    jobs = Jobs(Missing.FOREIGN)
    assert (await refusal(jobs, young())).code == "not_found"
    assert jobs.asked == 1


async def test_invariant_10_a_young_job_that_turns_out_to_be_another_workspaces_is_not_found() -> (
    None
):
    jobs = Jobs(Missing.UNKNOWN, Missing.UNKNOWN, Missing.FOREIGN)
    assert (await refusal(jobs, young())).code == "not_found"
    assert jobs.asked == 3


@pytest.mark.parametrize("missing", Missing)
@pytest.mark.parametrize(
    "job_id", [uuid4(), new_job_id(NOW - timedelta(minutes=6))], ids=["no-v7", "old"]
)
async def test_any_other_missing_job_is_not_found_at_once(job_id: UUID, missing: Missing) -> None:
    jobs = Jobs(missing)
    assert (await refusal(jobs, job_id)).code == "not_found"
    assert jobs.asked == 1


async def test_prefer_wait_waits_for_the_end() -> None:
    queries = JobQueries(Jobs(RUNNING, RUNNING, ENDED), Sent())
    assert await queries.get(WORKSPACE, uuid4(), wait_seconds=5) == ENDED


async def test_prefer_wait_gives_up_with_the_job_as_it_is() -> None:
    assert (
        await JobQueries(Jobs(RUNNING), Sent()).get(WORKSPACE, uuid4(), wait_seconds=0.1) == RUNNING
    )


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
    assert [is_young(new_job_id(NOW - age), NOW) for age in ages] == [
        False,
        True,
        True,
        True,
        False,
    ]


async def test_a_job_that_a_restored_postgres_lost_may_still_come_back() -> None:
    old = new_job_id(NOW - timedelta(hours=1))
    refused = await refusal(Jobs(Missing.UNKNOWN, replaying=True), old)
    assert (refused.code, refused.status, refused.headers) == (
        "status_behind",
        503,
        {"Retry-After": "2"},
    )
    assert "restored from a backup" in refused.message


async def test_a_job_that_comes_back_while_it_is_asked_for_is_answered() -> None:
    jobs = Jobs(Missing.UNKNOWN, {"job_id": "back", **ENDED}, replaying=True)
    assert (await JobQueries(jobs, Sent()).get(WORKSPACE, new_job_id(NOW - timedelta(hours=1))))[
        "job_id"
    ] == "back"


async def test_another_workspaces_job_is_404_even_while_imports_are_read_again() -> None:
    refused = await refusal(Jobs(Missing.FOREIGN, replaying=True), uuid4())
    assert refused.status == 404
