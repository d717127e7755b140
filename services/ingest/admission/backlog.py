"""Counts unsettled rows: those of the whole system by Kafka's lag, those of a workspace in memory.

The lag covers all replicas and survives a restart. It counts records: an import has its rows and up
to three more. It does not say which workspace a record belongs to. So each process remembers the
imports that it accepted, until the publisher's consumer group has passed them.
"""

import heapq
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from services.ingest.model import ImportEnd

MIN_RATE_BACKLOG_ROWS = 1000
"""The rate is measured only above this backlog. Below it, the publisher settles what arrives, which
is less than what it could settle.
"""
STALE_AFTER_SECONDS = 20.0
"""Seconds after which a lag sample is too old to be a reason for a refusal. Several samples must
fail first. Then the backlog no longer limits imports.
"""
RATE_WINDOW_SECONDS = 5.0
"""Time constant of the moving average of the settlement rate."""


@dataclass(frozen=True, slots=True)
class LagSample:
    """Offsets of the topic `imports` at one moment, by partition."""

    sampled_at: float
    end_offsets: Mapping[int, int]
    committed_offsets: Mapping[int, int]
    """The offsets up to which the publisher has settled the rows."""

    @property
    def backlog(self) -> int:
        """The number of records that the publisher has not settled."""
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
    """Counts unsettled rows in three steps.

    Rows are reserved before their import is appended, so that at most one of a process's concurrent
    imports overshoots a limit. Then they are confirmed with the import's end, or released.
    Confirmed rows count until the publisher has passed them.
    """

    clock: Callable[[], float] = time.monotonic
    """The clock of LagSample.sampled_at, in seconds."""
    settlement_rate: float | None = None
    """Rows settled per second (moving average); None until a large enough backlog was seen."""
    _rows_by_workspace: Counter[UUID] = field(default_factory=Counter)
    _reserved_rows: int = 0
    _appended: dict[int, list[_AppendedImport]] = field(default_factory=lambda: defaultdict(list))
    """Confirmed imports by partition, as heaps by their end."""
    _after_sample: list[tuple[ImportEnd, int]] = field(default_factory=list)
    """Confirmed rows that the last sample does not include."""
    _sample: LagSample | None = None

    @property
    def is_stale(self) -> bool:
        """True if there is no recent sample."""
        return self._sample is None or self.clock() - self._sample.sampled_at > STALE_AFTER_SECONDS

    def count_rows(self, workspace_id: UUID) -> int:
        """Returns the workspace's unsettled rows that this process accepted."""
        return self._rows_by_workspace[workspace_id]

    @property
    def total_rows(self) -> int:
        """The unsettled rows of all workspaces and replicas."""
        backlog = self._sample.backlog if self._sample else 0
        return backlog + sum(rows for _, rows in self._after_sample) + self._reserved_rows

    def reserve(self, workspace_id: UUID, rows: int) -> None:
        """Counts the rows of an import that is about to be appended."""
        self._rows_by_workspace[workspace_id] += rows
        self._reserved_rows += rows

    def release(self, workspace_id: UUID, rows: int) -> None:
        """Stops counting reserved rows: their import was not appended, or can't be tracked."""
        self._reserved_rows -= rows
        self._subtract(workspace_id, rows)

    def confirm(self, workspace_id: UUID, rows: int, import_end: ImportEnd) -> None:
        """Records that the import of reserved rows was appended, and where it ends."""
        self._reserved_rows -= rows
        heapq.heappush(
            self._appended[import_end.partition],
            _AppendedImport(import_end.offset, workspace_id, rows),
        )
        # A sample that was taken after the append already includes these rows
        sampled_end = self._sample.end_offsets.get(import_end.partition, 0) if self._sample else 0
        if import_end.offset > sampled_end:
            self._after_sample.append((import_end, rows))

    def observe(self, sample: LagSample) -> None:
        """Replaces the sample and stops counting what the publisher has settled since."""
        if self._sample is not None:
            self._update_rate(self._sample, sample)
        self._sample = sample
        self._after_sample = [
            (import_end, rows)
            for import_end, rows in self._after_sample
            if import_end.offset > sample.end_offsets.get(import_end.partition, 0)
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
        self.settlement_rate = (
            settled / seconds
            if self.settlement_rate is None
            else self.settlement_rate + weight * (settled / seconds - self.settlement_rate)
        )

    def _subtract(self, workspace_id: UUID, rows: int) -> None:
        self._rows_by_workspace[workspace_id] -= rows
        if self._rows_by_workspace[workspace_id] <= 0:
            del self._rows_by_workspace[workspace_id]
