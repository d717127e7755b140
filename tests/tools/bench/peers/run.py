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
from tests.tools.bench.figures import Figures
from tests.tools.bench.installation import LIKE_PRODUCTION, Style, bench_servers
from tests.tools.bench.measure import latencies, usage
from tests.tools.bench.peers.peer import TOPIC_PREFIX, Peer, Running, Servers
from tests.tools.bench.peers.submissions import Submissions
from tests.tools.bench.scenarios.bench import Seen, costs
from tests.tools.bench.space import space


@contextmanager
def peer_servers(style: Style = LIKE_PRODUCTION) -> Iterator[Servers]:
    """Servers of a peer's own, with nothing in them, started as Pinflow's are in the benchmark."""
    with bench_servers(style) as servers, fresh_database(servers.owner_url) as url:
        yield Servers(
            servers.bootstrap_servers,
            servers.kafka.directory / "data",
            url,
            new_workspace(url),
            servers.pids,
        )


def measure(peer: Peer, servers: Servers, seconds: float, warm_up_seconds: float) -> Figures:
    """Of submitting; it ends when all has settled.

    `exact` is 1, or 0 with `faults` in words; `lacks` is what the peer does not give.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-peer-", ignore_cleanup_errors=True) as name,
        peer.running(servers, Path(name)) as running,
    ):
        load = Submissions(running.base_url, servers.workspace, running.settled_rows)
        uvloop.run(load.saturate(warm_up_seconds, peer.most_unsettled))
        warm_rows, load.accepted = load.rows, []
        before = _look(peer, servers, running)
        took = uvloop.run(load.saturate(seconds, peer.most_unsettled))
        figures = costs(before, _look(peer, servers, running), load.rows - warm_rows, took)
        faults = [*load.faults, *running.faults(load.sent)]
        return {
            **figures,
            "accepted_ms": latencies(load.accepted),
            "exact": int(not faults),
            "faults": faults,
            "lacks": list(peer.lacks),
        }


def _look(peer: Peer, servers: Servers, running: Running) -> Seen:
    found = space(servers.database_url, servers.kafka_data, TOPIC_PREFIX, [running.schema])
    return Seen(
        usage(
            {name: pid for name, pid in servers.pids.items() if name in peer.uses}
            | dict(running.pids)
        ),
        found,
        {},
    )
