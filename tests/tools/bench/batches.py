"""How many records the services' consumers take at once, as their metrics tell."""

from collections.abc import Iterable

import httpx
from prometheus_client.parser import text_string_to_metric_families

NAME = "pinflow_batch_records"
Batches = dict[str, tuple[float, float]]
"""Records and batches since the start, by consumer."""


def batches(urls: Iterable[str]) -> Batches:
    """Of the services that answer, replicas together: some are stopped at times."""
    found: Batches = {}
    for url in urls:
        try:
            text = httpx.get(f"{url}/metrics", timeout=10, trust_env=False).text
        except httpx.TransportError:
            continue
        samples = {
            (sample.name, sample.labels["consumer"]): sample.value
            for family in text_string_to_metric_families(text)
            if family.name == NAME
            for sample in family.samples
        }
        counts = {
            consumer: value
            for (name, consumer), value in samples.items()
            if name == f"{NAME}_count"
        }
        for consumer, count in counts.items():
            records_before, batches_before = found.get(consumer, (0.0, 0.0))
            found[consumer] = (
                records_before + samples[f"{NAME}_sum", consumer],
                batches_before + count,
            )
    return found


def records_in_a_batch(before: Batches, after: Batches) -> dict[str, float]:
    """On average, between the two."""
    means: dict[str, float] = {}
    for consumer, (records, count) in after.items():
        earlier_records, earlier_count = before.get(consumer, (0.0, 0.0))
        if count > earlier_count:
            means[consumer] = round((records - earlier_records) / (count - earlier_count), 1)
    return means
