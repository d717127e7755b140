"""Restores an older Postgres under a current Kafka. No row is lost or doubled."""

import random
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest

from deploy.administration import NewWorkspace
from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for
from tests.support.deployment import is_live
from tests.support.restores_imports import ImportingClient, ImportScenario, importing
from tests.support.restores_installation import (
    RECOVERY_SECONDS,
    Installation,
    installed,
    read_counters,
    submit_at_once,
    wait_until_completed,
)
from tests.support.restores_state import find_differences
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BATCH_RECORDS = 50
"""Small, so that a backup has partly settled imports."""
IMPORTS, ROWS_PER_KIND = 12, 250
"""The number of concurrent imports, and of rows of each: as many with own as with shared keys."""
KILLS = 6
JOB_TIMES = {"started_at", "completed_at", "updated_at"}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("restores")
    with installed(directory, consumer_max_records=str(BATCH_RECORDS)) as installation:
        yield installation


@pytest.fixture
def workspace(installation: Installation) -> NewWorkspace:
    return new_workspace(installation.database_url)


@pytest.fixture
def client(installation: Installation, workspace: NewWorkspace) -> Iterator[httpx.Client]:
    with installation.client(workspace) as client:
        yield client


@pytest.fixture
def scenario(installation: Installation, workspace: NewWorkspace) -> ImportScenario:
    return ImportScenario(installation, workspace)


def test_invariants_2_to_4_services_that_start_on_an_older_postgres_restore_everything(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    scenario: ImportScenario,
) -> None:
    scenario.import_before_backup(client)
    copy = installation.back_up_postgres()
    scenario.import_after_backup(client)
    before = installation.read_state(workspace, scenario.jobs)
    installation.stop_services()
    installation.restore_postgres(copy)
    scenario.add_late_board()  # rows that failed without it must not be created now
    installation.start_services()
    installation.require_recovered(workspace, before)
    wait_until(installation.has_matching_offsets)
    scenario.import_again(client)


def test_invariants_2_to_4_an_older_postgres_under_running_services_is_noticed_and_repaired(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    scenario: ImportScenario,
) -> None:
    scenario.import_before_backup(client)
    copy = installation.back_up_postgres()
    scenario.import_after_backup(client)
    before = installation.read_state(workspace, scenario.jobs)
    installation.restore_postgres(copy)
    installation.require_recovered(workspace, before)
    wait_until(installation.has_matching_offsets)
    scenario.import_again(client)


def test_invariants_2_to_4_imports_continue_while_postgres_is_replaced_by_an_older_one(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    scenario: ImportScenario,
) -> None:
    with importing(installation, workspace) as clients:
        wait_for_imports(clients, 5)
        copy = installation.back_up_postgres()
        wait_for_imports(clients, 10)
        installation.restore_postgres(copy)
        wait_for_imports(clients, 5)
    require_ended_as_seen(installation, workspace, clients)


def wait_for_imports(clients: list[ImportingClient], count: int) -> None:
    """Waits until `count` more imports of each client have ended."""
    goals = [len(client.ended_jobs) + count for client in clients]
    wait_until(
        lambda: all(
            len(client.ended_jobs) >= goal for client, goal in zip(clients, goals, strict=True)
        ),
        seconds=RECOVERY_SECONDS,
    )


def require_ended_as_seen(
    installation: Installation,
    workspace: NewWorkspace,
    clients: list[ImportingClient],
) -> None:
    """Requires that all accepted imports end, with the results that the clients saw."""
    jobs = [job_id for client in clients for job_id in client.jobs]
    assert len(set(jobs)) == len(jobs)

    def have_ended() -> bool:
        state = installation.read_state(workspace, jobs)
        are_terminal = all(job["processed_rows"] == 40 for job in state.jobs.values())
        return not state.unanswered and are_terminal and not installation.is_replaying()

    wait_until(have_ended, seconds=RECOVERY_SECONDS)
    state = installation.read_state(workspace, jobs)
    seen = {job_id: job for client in clients for job_id, job in client.ended_jobs.items()}
    for job_id, job in seen.items():
        as_seen = {name: value for name, value in job.items() if name not in JOB_TIMES}
        assert state.jobs[job_id] == as_seen, installation.deployment.logs()
    installation.require_no_duplicates(workspace, state)
    missing = [job_id for client in clients for job_id in client.missing_jobs]
    print(f"{len(jobs)} imports, {len(seen)} seen to end; {len(missing)} once answered 404")


def test_invariants_2_to_4_a_backup_in_the_middle_of_imports_is_restored_without_an_extra_row(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
) -> None:
    """The backup has imports with some settled and some unsettled rows."""
    publisher = installation.deployment.programs["publisher"]
    for attempt in range(20):
        imports = [interleave_rows(workspace, attempt, number) for number in range(IMPORTS)]
        jobs = submit_at_once(client, imports)
        wait_until(partial(has_settled_row, installation, jobs))
        publisher.pause()
        if is_partly_settled := has_partly_settled_job(installation, jobs):
            copy = installation.back_up_postgres()
        publisher.resume()
        if is_partly_settled:
            break
    assert is_partly_settled
    created = [read_counters(wait_until_completed(client, job_id))[0] for job_id in jobs]
    assert sum(created) == ROWS_PER_KIND + IMPORTS * ROWS_PER_KIND
    before = installation.read_state(workspace, jobs)
    installation.restore_postgres(copy)
    installation.require_recovered(workspace, before)


def interleave_rows(workspace: NewWorkspace, attempt: int, number: int) -> list[dict[str, Any]]:
    """Builds rows whose keys alternate: of this import alone, and shared by all imports."""
    own = rows_for(workspace, ROWS_PER_KIND, prefix=f"own-{attempt}-{number}")
    shared = rows_for(workspace, ROWS_PER_KIND, prefix=f"all-{attempt}")
    return [row for pair in zip(own, shared, strict=True) for row in pair]


def has_settled_row(installation: Installation, jobs: list[str]) -> bool:
    """Returns whether Postgres has a pin of these jobs."""
    query = "select from publisher.pins where origin_job_id = any(%s::uuid[]) limit 1"
    with psycopg.connect(installation.database_url) as connection:
        return connection.execute(query, (jobs,)).rowcount > 0


def has_partly_settled_job(installation: Installation, jobs: list[str]) -> bool:
    """Returns whether Postgres has some of a job's own keys, but not all."""
    query = (
        "select from publisher.pins where origin_job_id = any(%s::uuid[]) "
        "and idempotency_key like 'own-%%' group by origin_job_id having count(*) < %s"
    )
    with psycopg.connect(installation.database_url) as connection:
        return connection.execute(query, (jobs, ROWS_PER_KIND)).rowcount > 0


def test_invariants_2_to_4_kills_in_the_middle_of_the_recovery_change_nothing(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    scenario: ImportScenario,
) -> None:
    scenario.import_before_backup(client)
    copy = installation.back_up_postgres()
    scenario.import_after_backup(client)
    imports = [rows_for(workspace, 500, prefix=f"large-{number % 4}") for number in range(12)]
    large = submit_at_once(client, imports)
    assert sum(read_counters(wait_until_completed(client, job_id))[0] for job_id in large) == 2000
    before = installation.read_state(workspace, [*scenario.jobs, *large])
    installation.restore_postgres(copy)
    kill_during_replay(installation)
    installation.require_recovered(workspace, before)
    wait_until(installation.has_matching_offsets)
    scenario.import_again(client)


def kill_during_replay(installation: Installation) -> None:
    """Kills publisher and status repeatedly, and restarts each as supervisor would."""
    rng = random.Random(16)
    for _ in range(KILLS):
        for name in ("publisher", "status"):
            deadline = time.monotonic() + rng.uniform(0.2, 2.0)
            wait_until(
                lambda: time.monotonic() > deadline or installation.is_replaying()  # noqa: B023
            )
            installation.deployment.programs[name].kill()
            installation.deployment.restart(name)
            url = installation.deployment.service_url(name)
            installation.deployment.programs[name].wait_until(lambda: is_live(url))  # noqa: B023
    installation.deployment.wait_until_ready()


def test_a_restore_twice_in_a_row_restores_everything(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    scenario: ImportScenario,
) -> None:
    """The second restore loses what was replayed after the first one."""
    scenario.import_before_backup(client)
    copy = installation.back_up_postgres()
    scenario.import_after_backup(client)
    before = installation.read_state(workspace, scenario.jobs)
    installation.restore_postgres(copy)
    wait_until(
        lambda: not find_differences(before, installation.read_state(workspace, scenario.jobs)),
        seconds=60,
    )
    installation.restore_postgres(copy)
    installation.require_recovered(workspace, before)
