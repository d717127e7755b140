"""The benchmark's equal-work peers do Pinflow's work, and stay exact when a process is killed.

The Celery peer needs `make bench-peers`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for
from tests.support.waiting import wait_until
from tests.tools.bench.bodies import (
    build_existing_rows,
    build_json_import,
    build_mixed_rows,
)
from tests.tools.bench.peers.equal_work.judge import EqualWorkStore, find_lost_imports
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

IMPORTS = "/v1/pins/imports"
PEERS: dict[str, tuple[Peer, tuple[str, ...]]] = {
    "fastapi": (EqualDirectPeer(), (WEB, RELAY)),
    "celery": (
        EqualCeleryPeer(worker_processes=2, redelivery_seconds=3),
        (WORKER, WEB, RELAY),
    ),
}
"""The peers, and the processes that a test kills."""
CLIENTS = 2
KILLS_OF_EACH = 3
IMPORTS_BETWEEN_KILLS = 4
RESUBMISSION_SECONDS = 60


@pytest.fixture(scope="module", params=list(PEERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def servers(kafka: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> PeerServers:
    workspace = new_workspace(database_url, "Peers")
    return PeerServers(kafka, tmp_path_factory.mktemp("kafka"), database_url, workspace, {})


@pytest.fixture(scope="module")
def measured(
    name: str, servers: PeerServers, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
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


@contextmanager
def open_client(peer: RunningProcesses, servers: PeerServers) -> Iterator[httpx.Client]:
    headers = {"X-API-Key": servers.workspace.api_key}
    with httpx.Client(
        base_url=peer.base_url, headers=headers, timeout=20, trust_env=False
    ) as client:
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


def wait_until_announced(store: EqualWorkStore) -> None:
    wait_until(lambda: store.read_number("select count(*) from outbox") == 0)


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
    one = client.get(f"{IMPORTS}/{job['job_id']}/rows/2").raise_for_status().json()
    assert one == results[2]
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


@dataclass
class LoadUnderKills:
    """Submits mixed imports from threads. Repeats a lost request with its Idempotency-Key."""

    open_client: Callable[[], Any]
    servers: PeerServers
    accepted: dict[UUID, int] = field(default_factory=dict)
    lost_answers: int = 0
    ending: threading.Event = field(default_factory=threading.Event)
    errors: list[Exception] = field(default_factory=list)

    def has_accepted(self, imports: int) -> bool:
        """Returns whether so many imports were accepted, or the load has failed."""
        return bool(self.errors) or len(self.accepted) >= imports

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._submit_all) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.ending.set()
            for thread in threads:
                thread.join()
        assert not self.errors

    def _submit_all(self) -> None:
        try:
            prepared = build_json_import(build_mixed_rows(self.servers.workspace)[0])
            while not self.ending.is_set():
                self._submit(prepared.build_copy())
        except Exception as error:  # noqa: BLE001 - the test's own thread reports it
            self.errors.append(error)
            self.ending.set()

    def _submit(self, body: bytes) -> None:
        headers = {"Idempotency-Key": uuid4().hex, "Content-Type": "application/json"}
        answers: list[httpx.Response] = []

        def is_accepted() -> bool:
            try:
                with self.open_client() as client:
                    answers.append(client.post(f"{IMPORTS}/json", content=body, headers=headers))
            except httpx.TransportError:
                self.lost_answers += 1
                return False
            return answers[-1].is_success

        wait_until(is_accepted, seconds=RESUBMISSION_SECONDS)
        answer = answers[-1].json()
        self.accepted[UUID(answer["id"])] = answer["total_rows"]


def test_every_accepted_row_is_exact_although_processes_are_killed(
    name: str,
    peer: RunningProcesses,
    client: httpx.Client,
    store: EqualWorkStore,
    servers: PeerServers,
) -> None:
    read_settled(client, submit(client, build_existing_rows(servers.workspace)))
    load = LoadUnderKills(lambda: open_client(peer, servers), servers)
    with load.running():
        for victim in PEERS[name][1] * KILLS_OF_EACH:
            reached = len(load.accepted) + IMPORTS_BETWEEN_KILLS
            wait_until(partial(load.has_accepted, reached), seconds=60)
            peer.programs[victim].kill_with_children()
            peer.programs[victim].start()
            peer.wait_until_ready()
    assert load.lost_answers > 0
    wait_until(
        lambda: store.read_number("select count(*) from jobs where settled_at is null") == 0,
        seconds=60,
    )
    wait_until_announced(store)
    assert find_lost_imports(load.accepted, store.read_jobs()) == []
    assert store.find_inconsistencies() == []
    rows = sum(load.accepted.values())
    assert rows >= 500 * IMPORTS_BETWEEN_KILLS * KILLS_OF_EACH * len(PEERS[name][1])
    print(f"{name}: {len(load.accepted)} imports, {rows} rows, {load.lost_answers} lost answers")
