"""Restarts services with SIGTERM.

They finish and commit the batch in flight. In a rolling restart a client needs at most a retry.
"""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx
import psycopg
import pytest

from deploy.administration import NewWorkspace
from deploy.services import SERVICES
from shared.contract.topics import TopicName
from shared.runtime.settings import ServiceSettings
from tests.acceptance.conftest import deployed_afresh
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment, is_live, wait_for_job
from tests.support.infrastructure import Servers
from tests.support.kafka import stream_records
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROWS = 100
CLIENTS = 3
DEFAULTS = ServiceSettings()
PAUSE_SECONDS = 0.2
RETRY_SECONDS = 40
STOPPED = -signal.SIGTERM
"""The exit code after SIGTERM: uvicorn shuts down and then raises the signal again.

After the failure of a component it would be 1.
"""


class Client:
    """Sends one import after another in a thread.

    Sends an import again after a 503 with Retry-After. Records any other answer than 202, and a
    lost connection, as failed.
    """

    def __init__(self, url: str, workspace: NewWorkspace, name: str) -> None:
        self._url = url
        self._workspace = workspace
        self._name = name
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.jobs: list[str] = []
        self.retried: list[str] = []
        self.failed: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        headers = {"X-API-Key": self._workspace.api_key}
        with httpx.Client(
            base_url=self._url, headers=headers, timeout=RETRY_SECONDS, trust_env=False
        ) as http:
            number = 0
            while not self._stopping.is_set():
                number += 1
                self._submit(http, rows_for(self._workspace, ROWS, prefix=f"{self._name}-{number}"))
                self._stopping.wait(PAUSE_SECONDS)

    def _submit(self, http: httpx.Client, rows: list[dict[str, Any]]) -> None:
        deadline = time.monotonic() + RETRY_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = http.post("/v1/pins/imports/json", json=rows)
            except httpx.TransportError as error:
                self.failed.append(repr(error))
                return
            if answer.status_code == HTTPStatus.ACCEPTED:
                self.jobs.append(answer.json()["id"])
                return
            if (
                answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE
                or "retry-after" not in answer.headers
            ):
                self.failed.append(answer.text)
                return
            self.retried.append(answer.json()["detail"]["code"])
            self._stopping.wait(float(answer.headers["retry-after"]))
        self.failed.append(f"not accepted within {RETRY_SECONDS} s")


@contextmanager
def load(pinflow: Deployment, workspace: NewWorkspace) -> Iterator[list[Client]]:
    clients = [Client(pinflow.base_url, workspace, f"client-{number}") for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()


def restart(pinflow: Deployment, name: str) -> None:
    """Restarts a service as a deployment does, and waits until it is ready.

    It must stop within its deadline.
    """
    started = time.monotonic()
    assert pinflow.programs[name].terminate() == STOPPED, pinflow.programs[name].tail()
    assert time.monotonic() - started < DEFAULTS.stop_timeout_seconds + 10
    pinflow.restart(name)
    pinflow.wait_until_ready()


@pytest.fixture(scope="module")
def pinflow(tmp_path_factory: pytest.TempPathFactory, stack: Servers) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("restarts")
    # A statement must wait for a test's lock until a busy machine has stopped the service
    with deployed_afresh(directory, stack, database_timeout_seconds="40") as deployment:
        yield deployment


@pytest.fixture
def pin_events_before(kafka: str, pinflow: Deployment) -> int:
    return count_pin_events(kafka, pinflow.topic_prefix)


def count_pin_events(kafka: str, topic_prefix: str) -> int:
    async def count() -> int:
        return sum([1 async for _ in stream_records(kafka, topic_prefix, TopicName.PIN_EVENTS)])

    return asyncio.run(count())


def count_repeated_rows(kafka: str, pinflow: Deployment, before: int, rows: int) -> int:
    """Waits for the pin events of `rows` created rows, and returns the number of further events.

    A batch that is processed twice sends its pin events twice. The publisher sends outcomes and pin
    events at the same time, so a job may end before all its pin events are in the topic.
    """
    further: list[int] = []

    def are_sent() -> bool:
        further.append(count_pin_events(kafka, pinflow.topic_prefix) - before - rows)
        return further[-1] >= 0

    wait_until(are_sent)
    return further[-1]


def test_a_rolling_restart_under_load_fails_no_import_and_repeats_at_most_one_batch(
    pinflow: Deployment,
    client: httpx.Client,
    workspace: NewWorkspace,
    kafka: str,
    pin_events_before: int,
) -> None:
    with load(pinflow, workspace) as clients:
        for name in SERVICES:
            restart(pinflow, name)
    jobs = [job_id for each in clients for job_id in each.jobs]
    assert [each.failed for each in clients] == [[]] * CLIENTS, pinflow.logs()
    assert len(jobs) > CLIENTS
    for job_id in jobs:
        job = wait_for_job(client, job_id)
        assert (job["status"], job["created_rows"]) == ("completed", ROWS), pinflow.logs()
    repeated = count_repeated_rows(kafka, pinflow, pin_events_before, len(jobs) * ROWS)
    print(
        f"{len(jobs)} imports, {sum(len(each.retried) for each in clients)} requests sent again, "
        f"{repeated} rows processed again"
    )
    assert repeated <= DEFAULTS.consumer_max_records


def test_sigterm_waits_for_the_batch_in_flight_and_commits_it(
    pinflow: Deployment,
    client: httpx.Client,
    workspace: NewWorkspace,
    kafka: str,
    pin_events_before: int,
) -> None:
    """A table lock holds the batch. After SIGTERM the publisher finishes it before it stops."""
    publisher = pinflow.programs["publisher"]
    with psycopg.connect(pinflow.database_url) as holding:
        holding.execute("lock table publisher.pins in share mode")  # readers pass, inserts wait
        accepted = client.post(
            "/v1/pins/imports/json", json=rows_for(workspace, ROWS, prefix="in-flight")
        )
        wait_until(lambda: is_insert_waiting(pinflow.database_url))
        publisher.process.terminate()
        # Then the publisher has received the signal: it accepts no more requests
        wait_until(lambda: not is_live(pinflow.service_url("publisher")))
        assert publisher.is_alive
        holding.rollback()
    assert publisher.process.wait(DEFAULTS.stop_timeout_seconds + 10) == STOPPED, publisher.tail()
    job = wait_for_job(client, accepted.json()["id"])
    # Status has folded the outcome, although the publisher is still down
    assert (job["status"], job["created_rows"]) == ("completed", ROWS)
    pinflow.restart("publisher")
    pinflow.wait_until_ready()
    after = client.post("/v1/pins/imports/json", json=rows_for(workspace, 1, prefix="after"))
    assert wait_for_job(client, after.json()["id"])["status"] == "completed"
    assert count_repeated_rows(kafka, pinflow, pin_events_before, ROWS + 1) == 0


def is_insert_waiting(database_url: str) -> bool:
    query = (
        "select from pg_stat_activity where datname = current_database() and wait_event_type = "
        "'Lock' and usename = 'pinflow_publisher'"
    )
    with psycopg.connect(database_url) as connection:
        return connection.execute(query).rowcount > 0
