"""What the benchmark knows of a peer."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.administration import NewWorkspace


@dataclass(frozen=True)
class PeerServers:
    """What all peers share. `pids` are the servers' own, by name."""

    kafka_bootstrap_servers: str
    kafka_data: Path
    database_url: str
    """The owner's, of a database with Pinflow's schemas: a peer makes a schema of its own beside
    them.
    """
    workspace: NewWorkspace
    pids: Mapping[str, int]


TOPIC_PREFIX = "peer"
"""Of a peer that uses Kafka."""


class RunningPeer(Protocol):
    """A peer that takes imports.

    `base_url` has Pinflow's path for them; `pids` are the roots of its process trees, by name.
    """

    @property
    def base_url(self) -> str: ...

    @property
    def pids(self) -> Mapping[str, int]: ...

    @property
    def schema(self) -> str:
        """Where its tables are."""

    def count_settled_rows(self) -> int:
        """It is asked twice a second."""

    def find_faults(self, sent: Mapping[str, int]) -> list[str]:
        """What is not as it should be, in words, of imports by their mark and the rows each had.

        All has settled by then.
        """


class Peer(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def missing_features(self) -> tuple[str, ...]:
        """What it does not give that Pinflow gives, a sentence each."""

    @property
    def uses(self) -> tuple[str, ...]:
        """Which of the servers: only their CPU is the peer's."""

    @property
    def max_unsettled_imports(self) -> int:
        """Imports accepted and not settled at which clients wait: enough to keep it busy, and to be
        done soon after the end.
        """

    def running(self, servers: PeerServers, directory: Path) -> AbstractContextManager[RunningPeer]:
        """Started, empty and ready; stopped at the end."""
