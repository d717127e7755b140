"""Postgres is put back and Kafka is kept: all becomes as it was, nothing happens twice."""

import random
import time
from collections.abc import Iterator
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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BATCH_RECORDS = 50
"""Small, so that a backup finds imports half settled."""
STRADDLING, HALF = 12, 250
"""Imports at once, and rows of each whose keys are its own; the others' are in all imports."""
KILLS = 6
JOB_TIMES = {"started_at", "completed_at", "updated_at"}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("restores")
    with installed(directory, consumer_max_records=str(BATCH_RECORDS)) as made:
        yield made


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
    scenario.add_late_board()  # rows that failed for want of it must not be created now
    installation.start_services()
    installation.require_recovered(workspace, before)
    wait_until(installation.has_matching_offsets)
    scenario.import_again(client)


def test_invariants_2_to_4_an_older_postgres_under_running_services_is_noticed_and_heals(
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


def test_invariants_2_to_4_imports_go_on_while_postgres_is_replaced_by_an_older_one(
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
    require_seen(installation, workspace, clients)


def wait_for_imports(clients: list[ImportingClient], count: int) -> None:
    """Waits until each client has seen so many more of its imports end."""
    goals = [len(client.ended_jobs) + count for client in clients]
    wait_until(
        lambda: all(len(one.ended_jobs) >= goal for one, goal in zip(clients, goals, strict=True)),
        seconds=RECOVERY_SECONDS,
    )


def require_seen(
    installation: Installation,
    workspace: NewWorkspace,
    clients: list[ImportingClient],
) -> None:
    """Requires that all accepted imports end, and that those which were seen ended as seen."""
    jobs = [job_id for client in clients for job_id in client.jobs]
    assert len(set(jobs)) == len(jobs)

    def have_ended() -> bool:
        record = installation.read_state(workspace, jobs)
        are_terminal = all(job["processed_rows"] == 40 for job in record.jobs.values())
        return not record.unanswered and are_terminal and not installation.is_replaying()

    wait_until(have_ended, seconds=RECOVERY_SECONDS)
    record = installation.read_state(workspace, jobs)
    seen = {job_id: job for client in clients for job_id, job in client.ended_jobs.items()}
    for job_id, job in seen.items():
        as_seen = {name: value for name, value in job.items() if name not in JOB_TIMES}
        assert record.jobs[job_id] == as_seen, installation.deployment.logs()
    installation.require_no_duplicates(workspace, record)
    unknown = [job_id for client in clients for job_id in client.missing_jobs]
    print(f"{len(jobs)} imports, {len(seen)} seen to end; {len(unknown)} once unknown")


def test_invariants_2_to_4_a_backup_in_the_middle_of_imports_is_restored_without_a_row_too_many(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
) -> None:
    """The backup holds imports of which some rows are settled, and others are not."""
    publisher = installation.deployment.programs["publisher"]
    rng = random.Random(16)
    for attempt in range(20):
        imports = [interleaved(workspace, attempt, number) for number in range(STRADDLING)]
        jobs = submit_at_once(client, imports)
        time.sleep(rng.uniform(0, 0.2))
        publisher.pause()
        if is_found := is_half_settled(installation, jobs):
            copy = installation.back_up_postgres()
        publisher.resume()
        if is_found:
            break
    assert is_found
    created = [read_counters(wait_until_completed(client, job_id))[0] for job_id in jobs]
    assert sum(created) == HALF + STRADDLING * HALF
    before = installation.read_state(workspace, jobs)
    installation.restore_postgres(copy)
    installation.require_recovered(workspace, before)


def interleaved(workspace: NewWorkspace, attempt: int, number: int) -> list[dict[str, Any]]:
    """Returns rows whose keys are in turn of this import alone and of all imports."""
    own = rows_for(workspace, HALF, prefix=f"own-{attempt}-{number}")
    shared = rows_for(workspace, HALF, prefix=f"all-{attempt}")
    return [row for pair in zip(own, shared, strict=True) for row in pair]


def is_half_settled(installation: Installation, jobs: list[str]) -> bool:
    """Tells whether the store has some of a job's own keys, but not all."""
    query = (
        "select from publisher.pins where origin_job_id = any(%s::uuid[]) "
        "and idempotency_key like 'own-%%' group by origin_job_id having count(*) < %s"
    )
    with psycopg.connect(installation.database_url) as connection:
        return connection.execute(query, (jobs, HALF)).rowcount > 0


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
    """Kills publisher and status again and again, and starts each as a supervisor would."""
    rng = random.Random(16)
    for _ in range(KILLS):
        for name in ("publisher", "status"):
            deadline = time.monotonic() + rng.uniform(0.2, 2.0)
            wait_until(lambda: time.monotonic() > deadline or installation.is_replaying())  # noqa: B023
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
    """The second restore comes while the first is healed: what was replayed is lost again."""
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
