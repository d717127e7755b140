"""The benchmark's equal-work peers do Pinflow's work, and stay exact when a process is killed.

The Celery peer needs `make bench-peers`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, LiteralString
from uuid import uuid4

import httpx
import pytest

from deploy.local.kafka import KafkaNode
from tests.acceptance.conftest import new_workspace
from tests.acceptance.equal_work import (
    IMPORTS,
    KEPT_KEYS,
    Submissions,
    ask_redis,
    count_kept_imports,
    locked,
    open_client,
    require_exact,
    restart,
    wait_until_announced,
    wait_until_stopped,
)
from tests.acceptance.rows import rows_for
from tests.support.infrastructure import FAST_JVM_OPTIONS, kafka_server
from tests.support.processes import RunningProgram
from tests.support.waiting import wait_until
from tests.tools.bench.bodies import build_existing_rows
from tests.tools.bench.peers.equal_work.judge import EqualWorkStore
from tests.tools.bench.peers.equal_work.peers import (
    RELAY,
    WORKER,
    EqualCeleryPeer,
    EqualDirectPeer,
)
from tests.tools.bench.peers.peer import Peer, PeerServers
from tests.tools.bench.peers.processes import WEB, RunningProcesses
from tests.tools.bench.peers.run import measure

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PEERS: dict[str, tuple[Peer, tuple[str, ...]]] = {
    "fastapi": (EqualDirectPeer(), (WEB, RELAY)),
    "celery": (
        EqualCeleryPeer(worker_processes=2, redelivery_seconds=3),
        (WORKER, WEB, RELAY),
    ),
}
"""The peers, and the processes that a test kills."""
CLIENTS = 2
KILLS_OF_EACH = 2
IMPORTS_BETWEEN_KILLS = 4


@pytest.fixture(scope="module", params=list(PEERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def own_kafka(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[KafkaNode, RunningProgram]]:
    """A broker of this module's own, because a test pauses it."""
    directory = tmp_path_factory.mktemp("kafka")
    with kafka_server(directory, FAST_JVM_OPTIONS) as (kafka, program):
        yield kafka.nodes[0], program


@pytest.fixture(scope="module")
def broker(own_kafka: tuple[KafkaNode, RunningProgram]) -> RunningProgram:
    return own_kafka[1]


@pytest.fixture(scope="module")
def servers(own_kafka: tuple[KafkaNode, RunningProgram], database_url: str) -> PeerServers:
    workspace = new_workspace(database_url, "Peers")
    node = own_kafka[0]
    return PeerServers(node.bootstrap_servers, node.directory, database_url, workspace, {})


@pytest.fixture(scope="module")
def measured(name: str, servers: PeerServers) -> dict[str, Any]:
    """The figures of a short measurement. It uses the same schema and topics as `peer`."""
    return measure(PEERS[name][0], servers, seconds=0.5, warm_up_seconds=0.1)


@pytest.fixture(scope="module")
def peer(
    name: str,
    measured: dict[str, Any],
    servers: PeerServers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningProcesses]:
    with PEERS[name][0].start(servers, tmp_path_factory.mktemp("peer")) as running:
        assert isinstance(running, RunningProcesses)
        yield running


@pytest.fixture
def store(peer: RunningProcesses) -> EqualWorkStore:
    assert isinstance(peer.store, EqualWorkStore)
    return peer.store


@pytest.fixture
def client(peer: RunningProcesses, servers: PeerServers) -> Iterator[httpx.Client]:
    with open_client(peer, servers) as client:
        yield client


def submit(client: httpx.Client, rows: list[dict[str, Any]]) -> str:
    response = client.post(f"{IMPORTS}/json", json=rows).raise_for_status()
    return str(response.json()["id"])


def read_settled(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Waits until the job has settled, and returns it with its results."""
    jobs: list[dict[str, Any]] = []

    def has_settled() -> bool:
        jobs.append(client.get(f"{IMPORTS}/{job_id}").raise_for_status().json())
        return jobs[-1]["settled_at"] is not None

    wait_until(has_settled)
    return jobs[-1]


def test_an_equal_work_peer_is_measured_and_exact(measured: dict[str, Any]) -> None:
    assert (measured["exact"], measured["faults"]) == (1, [])
    assert measured["work"] == "equal work"
    assert measured["rows"] > 0
    assert measured["cpu_us_per_row"].keys() >= {WEB, RELAY}
    assert measured["lacks"]


def test_rows_are_created_existing_or_failed_as_in_pinflow(
    client: httpx.Client, store: EqualWorkStore, servers: PeerServers
) -> None:
    rows = rows_for(servers.workspace, 4, prefix=uuid4().hex)
    first = read_settled(client, submit(client, rows))
    assert (first["created"], first["existing"], first["failed"]) == (4, 0, 0)
    rows[1]["title"] = "Another lamp"
    rows[2]["title"] = ""
    new_rows = rows_for(servers.workspace, 3, prefix=uuid4().hex)
    new_rows[0]["board_id"] = "1234567890123"
    new_rows[1]["run_at"] = "2100-01-01T12:00:00Z"
    new_rows[2]["idempotency_key"] = new_rows[1]["idempotency_key"]
    job = read_settled(client, submit(client, [*rows, *new_rows]))
    assert (job["created"], job["existing"], job["failed"]) == (1, 4, 2)
    results = {result["row_number"]: result for result in job["results"]}
    assert [results[number]["status"] for number in range(1, 8)] == [
        *("existing", "existing", "failed", "existing"),
        *("failed", "created", "existing"),
    ]
    assert results[1]["detail"]["payload_matches"] is True
    assert results[2]["detail"]["differing_fields"] == [
        {"field": "title", "stored": "Lamp 2", "sent": "Another lamp"}
    ]
    assert results[3]["detail"]["error_code"] == "validation_error"
    assert results[5]["detail"]["error_code"] == "board_not_found"
    assert results[6]["schedule_id"]
    assert results[6]["pin_id"] is None
    assert results[7]["schedule_id"] == results[6]["schedule_id"]
    result = client.get(f"{IMPORTS}/{job['job_id']}/rows/2").raise_for_status().json()
    assert result == results[2]
    wait_until_announced(store)
    assert store.find_inconsistencies() == []


def test_an_idempotency_key_gives_one_job(client: httpx.Client, servers: PeerServers) -> None:
    rows, headers = (
        rows_for(servers.workspace, 3, prefix=uuid4().hex),
        {"Idempotency-Key": uuid4().hex},
    )
    first, again = (
        client.post(f"{IMPORTS}/json", json=rows, headers=headers).raise_for_status()
        for _ in range(2)
    )
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    other = client.post(f"{IMPORTS}/json", json=rows[:2], headers=headers)
    assert other.status_code == httpx.codes.UNPROCESSABLE_ENTITY


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (
            "delete from results where row_number = 2; update result_texts set results = '[]'",
            "jobs do not have exactly one result for each row",
        ),
        ("update jobs set created = created + 1", "jobs have counters that differ"),
        ("delete from pins where origin_row = 1", "created results have no pin"),
        ("update pins set pin_id = gen_random_uuid()", "pins were not announced"),
        ("delete from jobs", "events of jobs differ from their job"),
    ],
)
def test_damage_is_found(
    client: httpx.Client, store: EqualWorkStore, servers: PeerServers, damage: Any, fault: str
) -> None:
    read_settled(client, submit(client, rows_for(servers.workspace, 3, prefix=uuid4().hex)))
    wait_until_announced(store)
    with store.connection.transaction(force_rollback=True):
        store.connection.execute(damage)
        assert any(fault in found for found in store.find_inconsistencies())
    assert store.find_inconsistencies() == []


@pytest.fixture
def submissions(peer: RunningProcesses, servers: PeerServers) -> Submissions:
    return Submissions(peer, servers)


MIDWAY: dict[str, list[tuple[str, LiteralString, LiteralString]]] = {
    "fastapi": [(WEB, "peer", "pins"), (WEB, "peer", "result_texts")],
    "celery": [
        (WORKER, "peer-worker", "results"),
        # The task is in Redis, and its job not yet in Postgres
        (WEB, "peer", "jobs"),
    ],
}
"""The process to kill, its name in pg_stat_activity, and the table at which it stops."""


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_killed_in_its_transaction_loses_and_doubles_nothing(
    name: str, index: int, peer: RunningProcesses, store: EqualWorkStore, submissions: Submissions
) -> None:
    victim, application, table = MIDWAY[name][index]
    with locked(store, table) as lock, submissions.in_threads(submissions.submit_import):
        wait_until_stopped(store, application)
        peer.programs[victim].kill_with_children()
        lock.rollback()
        restart(peer, victim)
    assert (submissions.lost_answers > 0) is (victim == WEB)
    assert len(submissions.accepted) == 1
    require_exact(submissions, store)


def test_a_relay_killed_while_it_sends_announces_every_event(
    peer: RunningProcesses,
    store: EqualWorkStore,
    submissions: Submissions,
    broker: RunningProgram,
) -> None:
    sending: LiteralString = """
        select count(*) from pg_stat_activity where datname = current_database()
            and application_name = 'peer-relay' and state = 'idle in transaction'
    """
    broker.pause()
    try:
        with submissions.in_threads(submissions.submit_import):
            wait_until(partial(submissions.has_accepted, 1))
        # A wrong relay may have deleted the events before it sends them
        wait_until(
            lambda: (
                store.read_number("select count(*) from jobs where settled_at is null") == 0
                and (store.read_number(sending) > 0 or store.count_waiting_imports() == 0)
            )
        )
        peer.programs[RELAY].kill_with_children()
    finally:
        broker.resume()
    restart(peer, RELAY)
    require_exact(submissions, store)


@pytest.mark.parametrize("name", ["celery"], indirect=True)
def test_an_import_that_a_killed_worker_did_not_forget_settles_once(
    peer: RunningProcesses, store: EqualWorkStore, submissions: Submissions
) -> None:
    wait_until(lambda: count_kept_imports(peer) == 0)  # those of earlier tests
    with locked(store, "results") as lock, submissions.in_threads(submissions.submit_import):
        wait_until_stopped(store, "peer-worker")
        wait_until(partial(submissions.has_accepted, 1))
        assert [ask_redis(peer, f"COPY {key} {key}-before") for key in KEPT_KEYS] == [1, 1]
        assert ask_redis(peer, f"HLEN {KEPT_KEYS[0]}-before") == 1
        lock.rollback()
        wait_until(lambda: count_kept_imports(peer) == 0)
    # Redis as a worker leaves it that was killed after its commit
    assert [ask_redis(peer, f"COPY {key}-before {key}") for key in KEPT_KEYS] == [1, 1]
    wait_until(lambda: count_kept_imports(peer) == 0)
    require_exact(submissions, store)


@pytest.mark.parametrize("name", ["celery"], indirect=True)
def test_a_task_that_redis_has_handed_out_and_nobody_has_is_sent_again(
    peer: RunningProcesses, store: EqualWorkStore, submissions: Submissions
) -> None:
    peer.programs[WORKER].kill_with_children()
    with submissions.in_threads(submissions.submit_import):
        wait_until(partial(submissions.has_accepted, 1))
    assert ask_redis(peer, "DEL celery") == 1
    restart(peer, WORKER)
    require_exact(submissions, store)


def test_every_accepted_row_is_exact_although_processes_are_killed(
    name: str,
    peer: RunningProcesses,
    client: httpx.Client,
    store: EqualWorkStore,
    servers: PeerServers,
    submissions: Submissions,
) -> None:
    read_settled(client, submit(client, build_existing_rows(servers.workspace)))
    victims = PEERS[name][1] * KILLS_OF_EACH
    with submissions.in_threads(submissions.submit_mixed, CLIENTS):
        for victim in victims:
            goal = len(submissions.accepted) + IMPORTS_BETWEEN_KILLS
            wait_until(partial(submissions.has_accepted, goal), seconds=60)
            peer.programs[victim].kill_with_children()
            restart(peer, victim)
    assert submissions.lost_answers > 0
    require_exact(submissions, store)
    assert len(submissions.accepted) >= IMPORTS_BETWEEN_KILLS * len(victims)
