"""Interfaces between the benchmark and a peer."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.administration import NewWorkspace


@dataclass(frozen=True)
class PeerServers:
    """Servers that all peers share. `pids` are those of the servers, by name."""

    kafka_bootstrap_servers: str
    kafka_data: Path
    database_url: str
    """Owner's URL of a database with Pinflow's schemas. A peer adds a schema of its own."""
    workspace: NewWorkspace
    pids: Mapping[str, int]


COUNTERS_ONLY = "counters only"
RESULTS_ONLY = "row results, no events"
EQUAL_WORK = "equal work"
"""The amounts of work, as tables and plots label them. Only equal work compares with Pinflow: row
results, comparison of existing rows, checked accounts and boards, and events."""

TOPIC_PREFIX = "peer"
"""Prefix of the topics of peers that use Kafka."""


class RunningPeer(Protocol):
    """A running peer that accepts imports.

    `base_url` serves Pinflow's path for imports; `pids` are the roots of its process trees, by
    name.
    """

    @property
    def base_url(self) -> str: ...

    @property
    def pids(self) -> Mapping[str, int]: ...

    @property
    def schema(self) -> str:
        """Database schema of its tables."""

    def count_settled_rows(self) -> int:
        """Counts settled rows. The benchmark calls it twice per second."""

    def find_faults(self, sent: Mapping[str, int]) -> list[str]:
        """Describes lost, extra or uncounted rows. It is called when all rows have settled.

        `sent` is the number of rows of each import, by its mark.
        """


class Peer(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def work(self) -> str:
        """The amount of its work: one of the three labels above."""

    @property
    def missing_features(self) -> tuple[str, ...]:
        """Features of Pinflow that it lacks, one sentence each."""

    @property
    def uses(self) -> tuple[str, ...]:
        """Names of the servers it uses. The CPU of others is not counted for it."""

    @property
    def max_unsettled_imports(self) -> int:
        """Number of unsettled imports at which clients wait.

        Enough to keep the peer busy, and few enough to settle soon after the end.
        """

    def start(self, servers: PeerServers, directory: Path) -> AbstractContextManager[RunningPeer]:
        """Runs the peer, which starts empty, and stops it at the end."""
