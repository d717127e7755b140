"""Lists all peers by name.

The list is not in `__init__.py`, which the peers' own processes import: they lack these packages.
"""

from collections.abc import Callable
from functools import partial

from tests.tools.bench.figures import Figures
from tests.tools.bench.peers.celery_peer import ROW_BY_ROW, WHOLE_IMPORTS
from tests.tools.bench.peers.direct_peer import DirectPeer
from tests.tools.bench.peers.equal_work.peers import EqualCeleryPeer, EqualDirectPeer
from tests.tools.bench.peers.faststream_peer import FastStreamPeer
from tests.tools.bench.peers.peer import Peer, PeerServers
from tests.tools.bench.peers.publisher_stage import measure_connect, measure_pinflow
from tests.tools.bench.peers.run import measure, peer_servers

STAGE_ROWS_PER_SECOND = 20_000
"""Rows for a stage per second of its duration. Pinflow's stage needs about a second for them."""

Measure = Callable[[float, float], Figures]
"""Measures on servers of its own, for `seconds` after `warm_up_seconds`.

Raises LocalError without the peers' software.
"""


def _measure_imports(peer: Peer, seconds: float, warm_up_seconds: float) -> Figures:
    with peer_servers() as servers:
        return measure(peer, servers, seconds, warm_up_seconds)


def _measure_stage(
    measure_stage: Callable[[PeerServers, int, int], Figures],
    seconds: float,
    warm_up_seconds: float,
) -> Figures:
    with peer_servers() as servers:
        return measure_stage(
            servers,
            round(seconds * STAGE_ROWS_PER_SECOND),
            round(warm_up_seconds * STAGE_ROWS_PER_SECOND),
        )


PEERS: dict[str, Measure] = {
    "celery-rows": partial(_measure_imports, ROW_BY_ROW),
    "celery-imports": partial(_measure_imports, WHOLE_IMPORTS),
    "celery-equal": partial(_measure_imports, EqualCeleryPeer()),
    "faststream": partial(_measure_imports, FastStreamPeer()),
    "fastapi": partial(_measure_imports, DirectPeer()),
    "fastapi-equal": partial(_measure_imports, EqualDirectPeer()),
    "publisher-stage": partial(_measure_stage, measure_pinflow),
    "kafka-connect": partial(_measure_stage, measure_connect),
}
