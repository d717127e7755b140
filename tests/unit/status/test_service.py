"""Reads of a job: stored, not folded yet, ended, and missing."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.ingest.ids import new_job_id
from services.status import service
from services.status.model import Missing
from services.status.service import JobQueries, is_young, parse_prefer_wait
from shared.contract.errors import ApiError

WORKSPACE = uuid4()
NOW = datetime.now(UTC)


class Jobs:
    """A JobReader that returns `answers` in order, and then always the last one."""

    def __init__(self, *answers: dict[str, Any] | Missing, replaying: bool = False) -> None:
        self.answers = list(answers)
        self.reads = 0
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
        self.reads += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


RUNNING = {"completed_at": None}
ENDED = {"completed_at": NOW}


async def get_error(jobs: Jobs, job_id: UUID) -> ApiError:
    with pytest.raises(ApiError) as error:
        await JobQueries(jobs, SentImports()).get(WORKSPACE, job_id)
    return error.value


class SentImports:
    """A client of ingest. Ingest may have sent every import, or it has sent none."""

    def __init__(self, *, may_exist: bool = True) -> None:
        self._may_exist = may_exist

    async def may_exist(self, _job_id: UUID) -> bool:
        return self._may_exist


def new_young_id() -> UUID:
    return new_job_id(datetime.now(UTC))


async def test_an_existing_job_is_returned_at_once() -> None:
    jobs = Jobs(RUNNING)
    assert await JobQueries(jobs, SentImports()).get(WORKSPACE, uuid4()) == RUNNING
    assert jobs.reads == 1


async def test_a_young_job_that_is_folded_during_the_wait_is_returned() -> None:
    jobs = Jobs(Missing.UNKNOWN, Missing.UNKNOWN, RUNNING)
    assert await JobQueries(jobs, SentImports()).get(WORKSPACE, new_young_id()) == RUNNING


async def test_an_unknown_young_job_is_503_because_it_may_still_be_folded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "MAX_FOLD_WAIT_SECONDS", 0.2)
    error = await get_error(Jobs(Missing.UNKNOWN), new_young_id())
    assert (error.code, error.status, error.headers) == (
        "status_behind",
        503,
        {"Retry-After": "2"},
    )
    assert error.message == (
        "The job is not available yet. Its import may still arrive. Try again, for up to 5 "
        "minutes after the import."
    )


async def test_invariant_10_a_young_job_that_ingest_has_not_sent_is_not_found_at_once() -> None:
    """Another workspace's job gets the same answer in the same time."""
    queries = JobQueries(Jobs(Missing.UNKNOWN), SentImports(may_exist=False))
    async with asyncio.timeout(1):
        with pytest.raises(ApiError) as error:
            await queries.get(WORKSPACE, new_young_id())
    assert error.value.code == "not_found"


async def test_a_job_that_is_folded_during_the_query_to_ingest_is_returned() -> None:
    queries = JobQueries(Jobs(Missing.UNKNOWN, RUNNING), SentImports(may_exist=False))
    assert await queries.get(WORKSPACE, new_young_id()) == RUNNING


async def test_invariant_10_a_young_job_of_another_workspace_is_not_found_at_once() -> None:
    jobs = Jobs(Missing.FOREIGN)
    assert (await get_error(jobs, new_young_id())).code == "not_found"
    assert jobs.reads == 1


async def test_invariant_10_a_young_job_that_turns_out_to_be_another_workspaces_is_not_found() -> (
    None
):
    jobs = Jobs(Missing.UNKNOWN, Missing.UNKNOWN, Missing.FOREIGN)
    assert (await get_error(jobs, new_young_id())).code == "not_found"
    assert jobs.reads == 3


@pytest.mark.parametrize("missing", Missing)
@pytest.mark.parametrize(
    "job_id", [uuid4(), new_job_id(NOW - timedelta(minutes=6))], ids=["no-v7", "old"]
)
async def test_any_other_missing_job_is_not_found_at_once(job_id: UUID, missing: Missing) -> None:
    jobs = Jobs(missing)
    assert (await get_error(jobs, job_id)).code == "not_found"
    assert jobs.reads == 1


async def test_prefer_wait_waits_until_the_job_has_ended() -> None:
    queries = JobQueries(Jobs(RUNNING, RUNNING, ENDED), SentImports())
    assert await queries.get(WORKSPACE, uuid4(), wait_seconds=5) == ENDED


async def test_prefer_wait_returns_an_unfinished_job_when_its_time_has_passed() -> None:
    assert (
        await JobQueries(Jobs(RUNNING), SentImports()).get(WORKSPACE, uuid4(), wait_seconds=0.1)
        == RUNNING
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
def test_prefer_is_parsed_by_rfc_7240_and_never_causes_an_error(
    values: list[str], seconds: int
) -> None:
    assert parse_prefer_wait(values) == seconds


def test_a_job_id_is_young_within_five_minutes_of_now() -> None:
    ages = [timedelta(minutes=minutes) for minutes in (-6, -4, 0, 4, 6)]
    assert [is_young(new_job_id(NOW - age), NOW) for age in ages] == [
        False,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "text", ["ffffffff-ffff-7fff-bfff-ffffffffffff", "11111111-1111-4111-8111-111111111111"]
)
def test_an_id_that_no_import_can_have_is_not_young(text: str) -> None:
    """The first one's time is after the year 9999, and the second one has no time."""
    assert not is_young(UUID(text), NOW)


async def test_a_missing_job_is_503_while_imports_are_replayed_after_a_restore() -> None:
    old = new_job_id(NOW - timedelta(hours=1))
    error = await get_error(Jobs(Missing.UNKNOWN, replaying=True), old)
    assert (error.code, error.status, error.headers) == (
        "status_behind",
        503,
        {"Retry-After": "2"},
    )
    assert "restored from a backup" in error.message


async def test_a_job_that_is_replayed_during_the_request_is_returned() -> None:
    jobs = Jobs(Missing.UNKNOWN, {"job_id": "back", **ENDED}, replaying=True)
    assert (
        await JobQueries(jobs, SentImports()).get(WORKSPACE, new_job_id(NOW - timedelta(hours=1)))
    )["job_id"] == "back"


async def test_another_workspaces_job_is_404_even_while_imports_are_replayed() -> None:
    error = await get_error(Jobs(Missing.FOREIGN, replaying=True), uuid4())
    assert error.status == 404
