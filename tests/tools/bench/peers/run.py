"""Measures one peer as Pinflow is measured: a warm-up, then full speed until all has settled.

The number of unsettled imports is bounded.
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
    """Starts empty servers for one peer, with the same options as Pinflow's in the benchmark."""
    with bench_servers(server_options) as servers, fresh_database(servers.owner_url) as url:
        yield PeerServers(
            servers.bootstrap_servers,
            servers.kafka.directory / "data",
            url,
            new_workspace(url),
            servers.pids,
        )


def measure(peer: Peer, servers: PeerServers, seconds: float, warm_up_seconds: float) -> Figures:
    """Submits for `seconds`, waits until all has settled, and returns the figures.

    `exact` is 1, or 0 with `faults` in words; `work` labels the amount of the peer's work, and
    `lacks` are the features that it lacks.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-peer-", ignore_cleanup_errors=True) as name,
        peer.start(servers, Path(name)) as running,
    ):
        load = Submissions(running.base_url, servers.workspace, running.count_settled_rows)
        uvloop.run(load.saturate(warm_up_seconds, peer.max_unsettled_imports))
        warm_rows, load.accepted = load.rows, []
        before = _take_snapshot(peer, servers, running)
        elapsed = uvloop.run(load.saturate(seconds, peer.max_unsettled_imports))
        figures = compute_costs(
            before, _take_snapshot(peer, servers, running), load.rows - warm_rows, elapsed
        )
        faults = [*load.faults, *running.find_faults(load.sent)]
        return {
            **figures,
            "accepted_ms": summarize_latencies(load.accepted),
            "exact": int(not faults),
            "faults": faults,
            "work": peer.work,
            "lacks": list(peer.missing_features),
        }


def _take_snapshot(peer: Peer, servers: PeerServers, running: RunningPeer) -> ResourceSnapshot:
    disk_usage = measure_disk_usage(
        servers.database_url, servers.kafka_data, TOPIC_PREFIX, [running.schema]
    )
    return ResourceSnapshot(
        measure_usage(
            {name: pid for name, pid in servers.pids.items() if name in peer.uses}
            | dict(running.pids)
        ),
        disk_usage,
        {},
    )
