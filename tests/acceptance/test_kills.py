"""Kills each service with SIGKILL in the middle of imports. No row is lost or doubled."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import create_engine, text

from deploy.administration import NewWorkspace
from deploy.services import SERVICES
from shared.postgres.database import sqlalchemy_url
from tests.acceptance.conftest import deployed_afresh
from tests.acceptance.rows import rows_for, submit_until_accepted
from tests.support.deployment import Deployment, is_live, wait_for_job
from tests.support.infrastructure import Servers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

IMPORTS, ROWS = 24, 100


@pytest.fixture(scope="module")
def pinflow(tmp_path_factory: pytest.TempPathFactory, stack: Servers) -> Iterator[Deployment]:
    with deployed_afresh(tmp_path_factory.mktemp("kills"), stack) as deployment:
        yield deployment


@contextmanager
def killing(pinflow: Deployment, name: str, times: int) -> Iterator[None]:
    """Kills and restarts the service while the body runs, at most `times` times.

    Waits at the end until Pinflow is ready.
    """
    done = threading.Event()

    def work() -> None:
        rng = random.Random(name)
        for _ in range(times):
            if done.wait(rng.uniform(0.05, 0.4)):
                break
            pinflow.programs[name].kill()
            pinflow.restart(name)
            pinflow.programs[name].wait_until(lambda: is_live(pinflow.service_url(name)))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        pinflow.wait_until_ready()


@pytest.mark.parametrize("name", SERVICES)
def test_invariant_2_and_invariant_3_kill_9_of_a_service_loses_and_doubles_nothing(
    pinflow: Deployment, client: httpx.Client, workspace: NewWorkspace, name: str
) -> None:
    with killing(pinflow, name, times=3):
        jobs = [
            submit_until_accepted(client, rows_for(workspace, ROWS, prefix=f"{name}-{number}"))
            for number in range(IMPORTS)
        ]
    for job_id in jobs:
        job = wait_for_job(client, job_id)
        assert job["completed_at"] is not None, pinflow.logs()
        assert (job["processed_rows"], job["failed_rows"], len(job["results"])) == (ROWS, 0, ROWS)
    assert client.get("/v1/pins?limit=1").headers["x-total-count"] == str(IMPORTS * ROWS)
    assert count_published_keys(pinflow.database_url, workspace) == IMPORTS * ROWS


def count_published_keys(database_url: str, workspace: NewWorkspace) -> int:
    engine = create_engine(sqlalchemy_url(database_url))
    query = text(
        "select count(distinct idempotency_key) from publisher.pins where workspace_id = :id"
    )
    with engine.connect() as connection:
        count = int(connection.execute(query, {"id": workspace.id}).scalar_one())
    engine.dispose()
    return count
