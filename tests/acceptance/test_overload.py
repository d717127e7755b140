"""Sends more rows than Pinflow can settle.

The sender gets 429 with Retry-After, other workspaces are hardly slower, and nothing is lost.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from deploy.administration import NewWorkspace
from deploy.local.ports import choose
from shared.contract.cloudevents import EventType
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.runtime.settings import KafkaSettings
from tests.acceptance.conftest import deployed_afresh, new_workspace
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment, is_ready, program_for_replica, wait_for_job
from tests.support.infrastructure import Servers
from tests.support.processes import RunningProgram
from tests.support.waiting import eventually, wait_until
from tests.tools.bench.flood import OTHER_ROWS, Flood, read_unsettled_rows
from tests.tools.bench.measure import measure_usage
from tests.tools.bench.sources import Sender as BenchSender

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROWS = 500
MAX_WORKSPACE_ROWS, MAX_ROWS_IN_ALL = 3000, 8000
HEADROOM = MAX_ROWS_IN_ALL // 10
STOP_SECONDS = 25
"""Time that a service has to stop. A consumer that waits for capacity must not use it up."""
HANGING_PINS, MAX_DIRECT_PINS = 60, 50
MAX_GROWTH_BYTES = 150 * 2**20
"""Bytes by which a process may grow in a flood: buffers, caches, and freed memory that it keeps."""


@pytest.fixture(scope="module")
def pinflow(tmp_path_factory: pytest.TempPathFactory, stack: Servers) -> Iterator[Deployment]:
    limits = {
        "max_unsettled_rows_per_workspace": str(MAX_WORKSPACE_ROWS),
        "max_unsettled_rows": str(MAX_ROWS_IN_ALL),
        "max_direct_pins": str(MAX_DIRECT_PINS),
        "database_timeout_seconds": "45",  # hanging statements wait until the test ends them
        "stop_timeout_seconds": str(STOP_SECONDS),
    }
    with deployed_afresh(tmp_path_factory.mktemp("overload"), stack, **limits) as deployment:
        yield deployment


class Sender:
    """Submits large imports of a workspace, to the gateway or directly to a replica."""

    def __init__(self, pinflow: Deployment, workspace: NewWorkspace) -> None:
        self.workspace = workspace
        self.client = httpx.Client(
            base_url=pinflow.base_url,
            headers={"X-API-Key": workspace.api_key},
            timeout=40,
            trust_env=False,
        )
        self.jobs: list[str] = []

    def submit(self, url: str = "") -> httpx.Response:
        answer = self.client.post(
            f"{url}/v1/pins/imports/json", json=rows_for(self.workspace, ROWS, prefix=uuid4().hex)
        )
        if answer.status_code == HTTPStatus.ACCEPTED:
            self.jobs.append(answer.json()["id"])
        return answer

    def submit_until_refused(self, url: str = "") -> httpx.Response:
        for _ in range(2 * MAX_ROWS_IN_ALL // ROWS):
            answer = self.submit(url)
            if answer.status_code != HTTPStatus.ACCEPTED:
                assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS, answer.text
                assert 1 <= int(answer.headers["retry-after"]) <= 60
                return answer
        raise AssertionError("all imports were accepted, with twice as many rows as the limit")

    def require_all_exact(self) -> None:
        for job_id in self.jobs:
            job = wait_for_job(self.client, job_id)
            assert (job["status"], job["created_rows"], len(job["results"])) == (
                "completed",
                ROWS,
                ROWS,
            ), job["status"]


@contextmanager
def senders(pinflow: Deployment, count: int) -> Iterator[list[Sender]]:
    created = [Sender(pinflow, new_workspace(pinflow.database_url)) for _ in range(count)]
    try:
        yield created
    finally:
        for sender in created:
            sender.client.close()


@contextmanager
def publisher_paused(pinflow: Deployment) -> Iterator[None]:
    """Waits until all rows are settled, and pauses the publisher while the body runs.

    It is not enough that all jobs have ended: a job may end before its batch is committed.
    """
    wait_until(lambda: read_unsettled_rows(pinflow.service_url("ingest")) == 0)
    program = pinflow.programs["publisher"]
    program.pause()
    try:
        yield
    finally:
        program.resume()


def test_invariant_2_only_the_flooding_workspace_is_told_to_wait(
    pinflow: Deployment, tmp_path: Path
) -> None:
    with senders(pinflow, 2) as (flooding, other):
        with publisher_paused(pinflow):
            detail = flooding.submit_until_refused().json()["detail"]
            assert (detail["code"], detail["limit"], detail["reason"]) == (
                "too_many_unsettled_rows",
                MAX_WORKSPACE_ROWS,
                "workspace",
            )
            assert detail["current"] == len(flooding.jobs) * ROWS == MAX_WORKSPACE_ROWS
            assert flooding.submit().status_code == HTTPStatus.TOO_MANY_REQUESTS
            assert other.submit().status_code == HTTPStatus.ACCEPTED
            command = start_import_command(pinflow, flooding.workspace, tmp_path)
            assert command.stderr is not None
            assert "Trying again in" in command.stderr.readline()
        _, errors = command.communicate(timeout=120)
        assert command.returncode == 0, errors
        flooding.require_all_exact()
        other.require_all_exact()
        wait_until(lambda: flooding.submit().status_code == HTTPStatus.ACCEPTED)
        flooding.require_all_exact()


def start_import_command(
    pinflow: Deployment, workspace: NewWorkspace, directory: Path
) -> "subprocess.Popen[str]":
    file = directory / "rows.json"
    file.write_text(json.dumps(rows_for(workspace, 3, prefix="by-command")))
    environment = {
        **os.environ,
        "PINFLOW_BASE_URL": pinflow.base_url,
        "PINFLOW_API_KEY": workspace.api_key,
    }
    command = [
        str(Path(sys.executable).with_name("pinflow")),
        "import",
        str(file),
        "--patience",
        "120",
    ]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_invariant_2_the_system_limit_holds_for_all_replicas_and_survives_a_kill(
    pinflow: Deployment, tmp_path: Path
) -> None:
    with (
        second_ingest(pinflow, tmp_path) as second,
        senders(pinflow, 4) as (*flooding, newcomer),
    ):
        with publisher_paused(pinflow):
            answers = [sender.submit_until_refused().json()["detail"] for sender in flooding]
            assert [answer["code"] for answer in answers] == [
                "too_many_unsettled_rows",
                "too_many_unsettled_rows",
                "overloaded",
            ]
            assert MAX_ROWS_IN_ALL <= answers[-1]["current"] < MAX_ROWS_IN_ALL + ROWS
            assert newcomer.submit().status_code == HTTPStatus.ACCEPTED  # from the reserve
            # The second replica learns the backlog from Kafka: it accepts only from the reserve
            wait_until(lambda: read_unsettled_rows(second) >= MAX_ROWS_IN_ALL)
            detail = flooding[0].submit_until_refused(second).json()["detail"]
            assert (detail["code"], detail["reason"]) == ("overloaded", "system")
            ingest = pinflow.programs["ingest"]
            ingest.kill()
            restart_ingest(pinflow)
            detail = flooding[1].submit_until_refused().json()["detail"]
            assert (detail["code"], detail["reason"]) == ("overloaded", "system")
            assert (
                sum(len(sender.jobs) for sender in [*flooding, newcomer]) * ROWS
                <= MAX_ROWS_IN_ALL + HEADROOM + 4 * ROWS
            )
        for sender in [*flooding, newcomer]:
            sender.require_all_exact()


@contextmanager
def second_ingest(pinflow: Deployment, directory: Path) -> Iterator[str]:
    """Runs a second replica that the gateway does not use. Yields its URL."""
    (port,) = choose({"ingest-1": pinflow.ports["ingest"] + 1}).values()
    program = RunningProgram(
        program_for_replica(pinflow.programs["ingest"].program, 1, port), directory
    )
    program.start()
    url = f"http://127.0.0.1:{port}"
    try:
        program.wait_until(lambda: is_ready(url))
        yield url
    finally:
        program.close()


def restart_ingest(pinflow: Deployment) -> None:
    """Starts ingest and waits until it is ready.

    The gateway is not ready while the publisher is paused.
    """
    pinflow.programs["ingest"].start()
    pinflow.programs["ingest"].wait_until(lambda: is_ready(pinflow.service_url("ingest")))


def test_invariant_2_the_request_consumer_waits_for_capacity_and_can_stop_meanwhile(
    pinflow: Deployment, kafka: str
) -> None:
    count = MAX_WORKSPACE_ROWS // ROWS + 4
    ingest = pinflow.programs["ingest"]
    with senders(pinflow, 1) as (sender,):
        with publisher_paused(pinflow):
            asyncio.run(request_imports(kafka, pinflow.topic_prefix, sender.workspace, count))
            ingest.wait_until(lambda: "batch_waits_for_capacity" in ingest.tail(1000))
            assert sender.submit().status_code == HTTPStatus.TOO_MANY_REQUESTS
            ingest.wait_until(lambda: is_ready(pinflow.service_url("ingest")))
            began = time.monotonic()
            ingest.terminate()
            assert time.monotonic() - began < STOP_SECONDS - 3  # it did not wait for the batch
            log = ingest.log.read_text()
            assert log.count("batch_waits_for_capacity") == 1
            assert "batch_failed" not in log
            restart_ingest(pinflow)
        wait_until(lambda: len(completed(sender)) == count)
        assert {(job["created_rows"], job["total_rows"]) for job in completed(sender)} == {
            (ROWS, ROWS)
        }


def completed(sender: Sender) -> list[dict[str, int]]:
    jobs: list[dict[str, int]] = sender.client.get(
        "/v1/pins/imports?limit=200&status=completed"
    ).json()
    return jobs


async def request_imports(kafka: str, prefix: str, workspace: NewWorkspace, count: int) -> None:
    settings = KafkaSettings(kafka_bootstrap_servers=kafka, topic_prefix=prefix)
    producer = RecordProducer(settings, client_id="upstream")
    await producer.start()
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": "e",
        "ce_source": "/test",
        "ce_type": EventType.IMPORT_REQUESTED,
    }
    headers = [(name, value.encode()) for name, value in attributes.items()]
    for number in range(count):
        rows = rows_for(workspace, ROWS, prefix=f"topic-{number}")
        document = {"request_id": str(uuid4()), "workspace_id": str(workspace.id), "rows": rows}
        record = Record(str(workspace.id).encode(), json.dumps(document).encode(), headers)
        await producer.send(TopicNames(prefix)[TopicName.IMPORT_REQUESTS], [record])
    await producer.stop()


def test_invariant_9_hanging_single_pins_are_limited_and_block_no_row(
    pinflow: Deployment,
) -> None:
    """Single pins and consumers have separate database connections.

    The single pins wait for the row lock of an uncommitted change to their pin.
    """
    with senders(pinflow, 1) as (sender,):
        (pin,) = rows_for(sender.workspace, 1, prefix="single")
        made = sender.client.post("/v1/pins", json=pin).json()
        with psycopg.connect(pinflow.database_url) as connection:
            connection.execute("delete from publisher.pins where pin_id = %s", [made["id"]])
            answers = asyncio.run(
                post_pins_while_rows_settle(pinflow, sender, pin, connection.rollback)
            )
        refused = [
            answer for answer in answers if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
        ]
        assert len(refused) == HANGING_PINS - MAX_DIRECT_PINS
        assert {
            (answer.json()["detail"]["code"], answer.headers["retry-after"]) for answer in refused
        } == {("overloaded", "1")}
        assert {answer.json()["id"] for answer in answers if answer not in refused} == {made["id"]}


async def post_pins_while_rows_settle(
    pinflow: Deployment, sender: Sender, pin: dict[str, object], release_lock: Callable[[], None]
) -> list[httpx.Response]:
    headers, limits = (
        {"X-API-Key": sender.workspace.api_key},
        httpx.Limits(max_connections=HANGING_PINS),
    )
    async with httpx.AsyncClient(
        base_url=pinflow.base_url, headers=headers, timeout=60, trust_env=False, limits=limits
    ) as client:
        posting = [
            asyncio.create_task(client.post("/v1/pins", json=pin)) for _ in range(HANGING_PINS)
        ]
        await eventually(
            lambda: sum(task.done() for task in posting) == HANGING_PINS - MAX_DIRECT_PINS
        )
        assert (await asyncio.to_thread(sender.submit)).status_code == HTTPStatus.ACCEPTED
        await asyncio.to_thread(sender.require_all_exact)
        assert sum(task.done() for task in posting) == HANGING_PINS - MAX_DIRECT_PINS, (
            "requests ended too early, so this test shows nothing"
        )
        release_lock()
        return await asyncio.gather(*posting)


def test_during_a_flood_other_imports_end_in_time_and_memory_is_bounded(
    pinflow: Deployment,
) -> None:
    flooding, other = (
        BenchSender(pinflow.base_url, new_workspace(pinflow.database_url)) for _ in range(2)
    )
    flood = Flood(flooding, other)
    pids = {name: program.process.pid for name, program in pinflow.programs.items()}
    seconds = 5.0
    asyncio.run(
        flood.run(
            seconds,
            32,
            lambda: measure_usage(pids).rss_bytes,
            lambda: read_unsettled_rows(pinflow.service_url("ingest")),
        ),
        debug=False,
    )
    assert flood.answers[HTTPStatus.TOO_MANY_REQUESTS] > 0
    assert flood.answers[HTTPStatus.ACCEPTED] > 0
    assert set(flood.answers) <= {
        HTTPStatus.ACCEPTED,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
    rate = flood.accepted_rows / (seconds + flood.drained_seconds)
    # The time to settle the backlog before an import, at the rate of this run. For a busy machine
    # it is tripled, and 5 s are added
    bound = 5 + 3 * (MAX_WORKSPACE_ROWS + ROWS + OTHER_ROWS) / rate
    assert max(flood.other_settled) < bound, (flood.other_settled, rate)
    for name in pids:
        assert flood.peak_bytes(name) - flood.sizes[0][1][name] < MAX_GROWTH_BYTES, name
