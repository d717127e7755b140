"""One peer, measured as Pinflow is: warmed up, then at full speed with a bound on what waits, until
all has settled.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from tests.acceptance.conftest import new_workspace
from tests.support.infrastructure import fresh_database
from tests.tools.bench.disk_usage import measure_disk_usage
from tests.tools.bench.figures import Figures
from tests.tools.bench.installation import PRODUCTION_OPTIONS, ServerOptions, bench_servers
from tests.tools.bench.measure import measure_usage, summarize_latencies
from tests.tools.bench.peers.peer import TOPIC_PREFIX, Peer, PeerServers, RunningPeer
from tests.tools.bench.peers.submissions import Submissions
from tests.tools.bench.scenarios.bench import ResourceSnapshot, compute_costs


@contextmanager
def peer_servers(server_options: ServerOptions = PRODUCTION_OPTIONS) -> Iterator[PeerServers]:
    """Servers of a peer's own, with nothing in them, started as Pinflow's are in the benchmark."""
    with bench_servers(server_options) as servers, fresh_database(servers.owner_url) as url:
        yield PeerServers(
            servers.bootstrap_servers,
            servers.kafka.directory / "data",
            url,
            new_workspace(url),
            servers.pids,
        )


def measure(peer: Peer, servers: PeerServers, seconds: float, warm_up_seconds: float) -> Figures:
    """Of submitting; it ends when all has settled.

    `exact` is 1, or 0 with `faults` in words; `lacks` is what the peer does not give.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-peer-", ignore_cleanup_errors=True) as name,
        peer.running(servers, Path(name)) as running,
    ):
        load = Submissions(running.base_url, servers.workspace, running.count_settled_rows)
        uvloop.run(load.saturate(warm_up_seconds, peer.max_unsettled_imports))
        warm_rows, load.accepted = load.rows, []
        before = _take_snapshot(peer, servers, running)
        took = uvloop.run(load.saturate(seconds, peer.max_unsettled_imports))
        figures = compute_costs(
            before, _take_snapshot(peer, servers, running), load.rows - warm_rows, took
        )
        faults = [*load.faults, *running.find_faults(load.sent)]
        return {
            **figures,
            "accepted_ms": summarize_latencies(load.accepted),
            "exact": int(not faults),
            "faults": faults,
            "lacks": list(peer.missing_features),
        }


def _take_snapshot(peer: Peer, servers: PeerServers, running: RunningPeer) -> ResourceSnapshot:
    found = measure_disk_usage(
        servers.database_url, servers.kafka_data, TOPIC_PREFIX, [running.schema]
    )
    return ResourceSnapshot(
        measure_usage(
            {name: pid for name, pid in servers.pids.items() if name in peer.uses}
            | dict(running.pids)
        ),
        found,
        {},
    )
