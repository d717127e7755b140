"""Measures the benchmark's direct and FastStream peers briefly; checks that a lost row is found.

These peers need no servers besides Pinflow's.
"""

from collections.abc import Iterator

import httpx
import psycopg
import pytest

from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for
from tests.tools.bench.peers.direct_peer import DirectPeer
from tests.tools.bench.peers.faststream_peer import FastStreamPeer
from tests.tools.bench.peers.peer import PeerServers
from tests.tools.bench.peers.processes import RunningProcesses
from tests.tools.bench.peers.run import measure

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers(kafka: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> PeerServers:
    return PeerServers(
        kafka,
        tmp_path_factory.mktemp("kafka"),
        database_url,
        new_workspace(database_url, "Peers"),
        {},
    )


@pytest.fixture(scope="module")
def peer(
    servers: PeerServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProcesses]:
    with DirectPeer().start(servers, tmp_path_factory.mktemp("peer")) as running:
        yield running


@pytest.fixture
def client(peer: RunningProcesses, servers: PeerServers) -> Iterator[httpx.Client]:
    headers = {"X-API-Key": servers.workspace.api_key}
    with httpx.Client(
        base_url=peer.base_url, headers=headers, timeout=40, trust_env=False
    ) as client:
        yield client


# Runs first: it recreates the peer's schema, which the peer of the other tests uses
def test_the_direct_peer_is_measured_and_exact(servers: PeerServers) -> None:
    figures = measure(DirectPeer(), servers, seconds=0.5, warm_up_seconds=0.1)
    assert (figures["exact"], figures["faults"]) == (1, [])
    assert figures["rows"] > 0
    assert figures["accepted_ms"]["n"] * 500 == figures["rows"]
    assert figures["cpu_us_per_row"]["web"] > 0
    assert figures["lacks"]


def test_the_faststream_peer_is_measured_and_exact(servers: PeerServers) -> None:
    figures = measure(FastStreamPeer(), servers, seconds=0.5, warm_up_seconds=0.1)
    assert (figures["exact"], figures["faults"]) == (1, [])
    assert figures["rows"] > 0


def test_created_and_existing_rows_are_counted_and_a_lost_row_is_found(
    client: httpx.Client, peer: RunningProcesses, servers: PeerServers
) -> None:
    rows = rows_for(servers.workspace, 20, prefix="mark")
    first, again = (
        client.post("/v1/pins/imports/json", json=rows).raise_for_status().json()["id"]
        for _ in range(2)
    )
    jobs = [client.get(f"/v1/pins/imports/{job}").json() for job in (first, again)]
    assert [(job["created_rows"], job["existing_rows"]) for job in jobs] == [(20, 0), (0, 20)]
    assert peer.count_settled_rows() == 40
    assert peer.find_faults({"mark": 20}) == []
    with psycopg.connect(peer.store.url) as connection:
        connection.execute("delete from pins where idempotency_key = 'mark-7'")
    assert peer.find_faults({"mark": 20}) == ["1 rows lost, in 1 imports (mark)"]


def test_the_direct_peer_requires_a_valid_key(client: httpx.Client) -> None:
    assert (
        client.post("/v1/pins/imports/json", json=[], headers={"X-API-Key": "wrong"}).status_code
        == httpx.codes.UNAUTHORIZED
    )
