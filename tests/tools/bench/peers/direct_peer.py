"""Peer without a queue: FastAPI inserts the whole import in the request.

A team builds this before it needs Kafka.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tools.bench.peers.peer import COUNTERS_ONLY, PeerServers
from tests.tools.bench.peers.processes import WEB, RunningProcesses, start_processes


class DirectPeer:
    name = "FastAPI, inserted in the request"
    work = COUNTERS_ONLY
    missing_features = (
        (
            "While Postgres is down or slow, nothing is accepted: there is no buffer between the "
            "client and the database."
        ),
        (
            "A burst waits in the clients' connections: there is no admission control, and no "
            "fairness between workspaces."
        ),
        (
            "No request ids: after a lost response a client must send again, which creates a "
            "second job."
        ),
        "No result for each row, and no check whether an existing row's content matches.",
        "No events for consumers, no schedules, no checks of accounts and boards.",
    )
    uses = ("postgres",)
    max_unsettled_imports = 150

    @contextmanager
    def start(self, servers: PeerServers, directory: Path) -> Iterator[RunningProcesses]:
        web = (sys.executable, "-m", "tests.tools.bench.peers.direct_web")
        with start_processes(
            servers, directory, schema="peer_direct", modules={WEB: web}
        ) as running:
            yield running
