"""One peer, measured as Pinflow is: warmed up, then at full speed with a bound on what waits, until all has settled."""

import tempfile
from pathlib import Path
from typing import Any

import uvloop

from tests.bench.measure import cpu_per_row, percentiles, usage
from tests.bench.peers.peer import Peer, Servers
from tests.bench.peers.submissions import Submissions


def measure(peer: Peer, servers: Servers, seconds: float, *, warm_up_seconds: float | None = None) -> dict[str, Any]:
    """The figures of Pinflow's own report, `exact` and what is wrong if it isn't, and what the peer does not give.

    `seconds` of submitting; it ends when all has settled. The warm-up is as long unless said otherwise.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-peer-", ignore_cleanup_errors=True) as name,
        peer.running(servers, Path(name)) as running,
    ):
        pids = {**servers.pids, **running.pids}
        load = Submissions(running.base_url, servers.workspace, running.settled_rows)
        uvloop.run(load.saturate(seconds if warm_up_seconds is None else warm_up_seconds, peer.most_unsettled))
        warm_rows, load.accepted = load.rows, []
        before = usage(pids)
        took = uvloop.run(load.saturate(seconds, peer.most_unsettled))
        after = usage(pids)
        rows = load.rows - warm_rows
        cpu = {part: round(value, 1) for part, value in cpu_per_row(before, after, rows).items()}
        faults = running.faults(load.sent)
        return {
            "rows": rows,
            "seconds": round(took, 1),
            "rows_per_second": round(rows / took),
            "accepted_ms": percentiles(load.accepted),
            "cpu_us_per_row": cpu | {"all but the generator": round(sum(cpu.values()) - cpu["generator"], 1)},
            "rss_mb": {part: round(size / 2**20) for part, size in after.rss_bytes.items()},
            "exact": not faults,
            "faults": faults,
            "lacks": list(peer.lacks),
        }
