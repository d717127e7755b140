"""(d) What a team does before it needs Kafka: one FastAPI process that inserts the whole import in
the request.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tools.bench.peers.peer import PeerServers
from tests.tools.bench.peers.processes import WEB, RunningProcesses, start_processes


class DirectPeer:
    name = "FastAPI, inserted in the request"
    missing_features = (
        (
            "While Postgres is away or slow nothing is accepted: there is nothing between the "
            "client and the database."
        ),
        (
            "A burst waits in the clients' connections; there is no admission, and no other "
            "workspace's turn."
        ),
        (
            "No request ids: an answer that was lost leaves a client to send again, which makes a "
            "second job."
        ),
        "No result for each row, and no telling whether an existing row's content matches.",
        "No events for others, no schedules, no accounts and boards checked.",
    )
    uses = ("postgres",)
    max_unsettled_imports = 150

    @contextmanager
    def running(self, servers: PeerServers, directory: Path) -> Iterator[RunningProcesses]:
        web = (sys.executable, "-m", "tests.tools.bench.peers.direct_web")
        with start_processes(
            servers, directory, schema="peer_direct", modules={WEB: web}
        ) as running:
            yield running
