"""Counts the rows that are accepted and not settled: of the system by Kafka's figures, of each
workspace by memory.

Kafka's figure holds for all replicas and survives a restart. It counts records: an import is its
rows and up to three more. Kafka does not tell whose rows they are. Each process knows that of what
it accepted itself, until the publisher's group is past it.
"""

import heapq
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

BUSY_ROWS = 1000
"""With less waiting, what is settled is what came in, not what could be."""
BLIND_AFTER_SECONDS = 20.0
"""Without news from Kafka for so long nobody is refused: the figures may be wrong, and the append
decides. It takes several failed readings."""
RATE_SECONDS = 5.0
"""How far back the rate looks."""


class Position(NamedTuple):
    """The offset behind an import's last row in the topic `imports`."""

    partition: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The topic `imports` at one moment: its ends and the publisher's offsets, by partition."""

    at: float
    ends: Mapping[int, int]
    settled: Mapping[int, int]

    @property
    def backlog(self) -> int:
        return sum(max(0, end - self.settled[partition]) for partition, end in self.ends.items())


class _Standing(NamedTuple):
    end: int
    workspace_id: UUID
    rows: int


@dataclass(slots=True)
class Unsettled:
    """Holds the figures.

    Rows are taken before their append, so that imports at the same moment can't overshoot; then
    they are placed or given back.
    """

    clock: Callable[[], float] = time.monotonic
    """The clock of Reading.at, in seconds."""
    rate: float | None = None
    """Rows settled a second while enough were waiting; None until that has been seen."""
    _of_workspace: Counter[UUID] = field(default_factory=Counter)
    _underway: int = 0
    _standing: dict[int, list[_Standing]] = field(default_factory=lambda: defaultdict(list))
    _unread: list[tuple[Position, int]] = field(default_factory=list)
    _reading: Reading | None = None

    @property
    def is_blind(self) -> bool:
        """Tells whether the last reading is too old, or there is none."""
        return self._reading is None or self.clock() - self._reading.at > BLIND_AFTER_SECONDS

    def of(self, workspace_id: UUID) -> int:
        return self._of_workspace[workspace_id]

    @property
    def total(self) -> int:
        backlog = self._reading.backlog if self._reading else 0
        return backlog + sum(rows for _, rows in self._unread) + self._underway

    def take(self, workspace_id: UUID, rows: int) -> None:
        self._of_workspace[workspace_id] += rows
        self._underway += rows

    def give_back(self, workspace_id: UUID, rows: int) -> None:
        self._underway -= rows
        self._drop(workspace_id, rows)

    def place(self, workspace_id: UUID, rows: int, position: Position) -> None:
        """Gives rows that were taken their position: their import has been appended."""
        self._underway -= rows
        heapq.heappush(
            self._standing[position.partition], _Standing(position.end, workspace_id, rows)
        )
        if not self._reading or position.end > self._reading.ends.get(
            position.partition, 0
        ):  # a reading may have come in between
            self._unread.append((position, rows))

    def observe(self, reading: Reading) -> None:
        """What the publisher's group is past is settled; what ends within the reading is counted by
        it.
        """
        if self._reading is not None:
            self._measure(self._reading, reading)
        self._reading = reading
        self._unread = [
            (position, rows)
            for position, rows in self._unread
            if position.end > reading.ends.get(position.partition, 0)
        ]
        for partition, standing in self._standing.items():
            while standing and standing[0].end <= reading.settled.get(partition, 0):
                gone = heapq.heappop(standing)
                self._drop(gone.workspace_id, gone.rows)

    def _measure(self, before: Reading, now: Reading) -> None:
        seconds = now.at - before.at
        if seconds <= 0 or min(before.backlog, now.backlog) < BUSY_ROWS:
            return
        settled = sum(
            max(0, offset - before.settled.get(partition, 0))
            for partition, offset in now.settled.items()
        )
        weight = 1 - math.exp(-seconds / RATE_SECONDS)
        self.rate = (
            settled / seconds
            if self.rate is None
            else self.rate + weight * (settled / seconds - self.rate)
        )

    def _drop(self, workspace_id: UUID, rows: int) -> None:
        self._of_workspace[workspace_id] -= rows
        if self._of_workspace[workspace_id] <= 0:
            del self._of_workspace[workspace_id]
