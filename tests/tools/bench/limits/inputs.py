"""Inputs of every limit: servers without services, durations, and this round's results."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.publisher.config import PublisherSettings
from tests.tools.bench.figures import Figures
from tests.tools.bench.installation import BenchServers
from tests.tools.bench.scenarios.bench import Lengths

DEFAULT_FOLD_RECORDS = 5
"""Records in a fold if this round measured none: 600 rows and their imports."""


@dataclass(frozen=True)
class LimitInputs:
    servers: BenchServers
    lengths: Lengths
    results: Mapping[str, Figures]

    @property
    def rows_at_once(self) -> int:
        """Rows in a publisher's batch: the mean at full load, or else the maximum."""
        return int(
            self._read_mean_batch_size("publisher")
            or PublisherSettings.model_fields["consumer_max_records"].default
        )

    @property
    def records_at_once(self) -> int:
        """Records in a fold: the mean at full load, or else the default."""
        return max(1, round(self._read_mean_batch_size("status") or DEFAULT_FOLD_RECORDS))

    @property
    def warm_up_seconds(self) -> float:
        """Duration of the broker's warm-up. It is short if the broker was already under load."""
        return 1.0 if self.results else self.lengths.warm_up_seconds

    def _read_mean_batch_size(self, consumer: str) -> float | None:
        mean = self.results.get("sustained", {}).get("records_in_a_batch", {}).get(consumer)
        return None if mean is None else float(mean)
