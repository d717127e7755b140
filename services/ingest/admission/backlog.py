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

MIN_RATE_BACKLOG_ROWS = 1000
"""With less waiting, what is settled is what came in, not what could be."""
STALE_AFTER_SECONDS = 20.0
"""Without news from Kafka for so long nobody is refused: the figures may be wrong, and the append
decides. It takes several failed readings."""
RATE_WINDOW_SECONDS = 5.0
"""How far back the rate looks."""


class EndPosition(NamedTuple):
    """The offset behind an import's last row in the topic `imports`."""

    partition: int
    end: int


@dataclass(frozen=True, slots=True)
class LagSample:
    """The topic `imports` at one moment: its ends and the publisher's offsets, by partition."""

    sampled_at: float
    end_offsets: Mapping[int, int]
    committed_offsets: Mapping[int, int]

    @property
    def backlog(self) -> int:
        return sum(
            max(0, end - self.committed_offsets[partition])
            for partition, end in self.end_offsets.items()
        )


class _AppendedImport(NamedTuple):
    end: int
    workspace_id: UUID
    rows: int


@dataclass(slots=True)
class BacklogTracker:
    """Holds the figures.

    Rows are taken before their append, so that imports at the same moment can't overshoot; then
    they are placed or given back.
    """

    clock: Callable[[], float] = time.monotonic
    """The clock of LagSample.sampled_at, in seconds."""
    rate: float | None = None
    """Rows settled a second while enough were waiting; None until that has been seen."""
    _rows_by_workspace: Counter[UUID] = field(default_factory=Counter)
    _reserved_rows: int = 0
    _appended: dict[int, list[_AppendedImport]] = field(default_factory=lambda: defaultdict(list))
    _after_sample: list[tuple[EndPosition, int]] = field(default_factory=list)
    _sample: LagSample | None = None

    @property
    def is_stale(self) -> bool:
        """Tells whether the last sample is too old, or there is none."""
        return self._sample is None or self.clock() - self._sample.sampled_at > STALE_AFTER_SECONDS

    def count_rows(self, workspace_id: UUID) -> int:
        return self._rows_by_workspace[workspace_id]

    @property
    def total_rows(self) -> int:
        backlog = self._sample.backlog if self._sample else 0
        return backlog + sum(rows for _, rows in self._after_sample) + self._reserved_rows

    def reserve(self, workspace_id: UUID, rows: int) -> None:
        self._rows_by_workspace[workspace_id] += rows
        self._reserved_rows += rows

    def release(self, workspace_id: UUID, rows: int) -> None:
        self._reserved_rows -= rows
        self._subtract(workspace_id, rows)

    def confirm(self, workspace_id: UUID, rows: int, position: EndPosition) -> None:
        """Gives rows that were taken their position: their import has been appended."""
        self._reserved_rows -= rows
        heapq.heappush(
            self._appended[position.partition], _AppendedImport(position.end, workspace_id, rows)
        )
        if not self._sample or position.end > self._sample.end_offsets.get(
            position.partition, 0
        ):  # a sample may have come in between
            self._after_sample.append((position, rows))

    def observe(self, sample: LagSample) -> None:
        """What the publisher's group is past is settled; what ends within the sample is counted by
        it.
        """
        if self._sample is not None:
            self._update_rate(self._sample, sample)
        self._sample = sample
        self._after_sample = [
            (position, rows)
            for position, rows in self._after_sample
            if position.end > sample.end_offsets.get(position.partition, 0)
        ]
        for partition, appended in self._appended.items():
            while appended and appended[0].end <= sample.committed_offsets.get(partition, 0):
                settled_import = heapq.heappop(appended)
                self._subtract(settled_import.workspace_id, settled_import.rows)

    def _update_rate(self, before: LagSample, now: LagSample) -> None:
        seconds = now.sampled_at - before.sampled_at
        if seconds <= 0 or min(before.backlog, now.backlog) < MIN_RATE_BACKLOG_ROWS:
            return
        settled = sum(
            max(0, offset - before.committed_offsets.get(partition, 0))
            for partition, offset in now.committed_offsets.items()
        )
        weight = 1 - math.exp(-seconds / RATE_WINDOW_SECONDS)
        self.rate = (
            settled / seconds
            if self.rate is None
            else self.rate + weight * (settled / seconds - self.rate)
        )

    def _subtract(self, workspace_id: UUID, rows: int) -> None:
        self._rows_by_workspace[workspace_id] -= rows
        if self._rows_by_workspace[workspace_id] <= 0:
            del self._rows_by_workspace[workspace_id]
