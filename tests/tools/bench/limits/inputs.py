"""What every limit is given: servers on which no service runs, how long, and what this round has
found.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.publisher.config import PublisherSettings
from tests.tools.bench.figures import Figures
from tests.tools.bench.installation import BenchServers
from tests.tools.bench.scenarios.bench import Lengths

DEFAULT_FOLD_RECORDS = 5
"""Records in a fold where none was seen: 600 rows and their imports."""


@dataclass(frozen=True)
class LimitInputs:
    servers: BenchServers
    lengths: Lengths
    results: Mapping[str, Figures]

    @property
    def rows_at_once(self) -> int:
        """What the publisher takes: as it did at full load, else its maximum."""
        return int(
            self._read_mean_batch_size("publisher")
            or PublisherSettings.model_fields["consumer_max_records"].default
        )

    @property
    def records_at_once(self) -> int:
        """What a fold takes."""
        return max(1, round(self._read_mean_batch_size("status") or DEFAULT_FOLD_RECORDS))

    @property
    def warm_up_seconds(self) -> float:
        """Of a broker that has not been under load yet."""
        return 1.0 if self.results else self.lengths.warm_up_seconds

    def _read_mean_batch_size(self, consumer: str) -> float | None:
        mean = self.results.get("sustained", {}).get("records_in_a_batch", {}).get(consumer)
        return None if mean is None else float(mean)
