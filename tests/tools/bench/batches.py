"""Reads from the services' metrics how many records their consumers process in a batch."""

from collections.abc import Iterable

import httpx
from prometheus_client.parser import text_string_to_metric_families

METRIC = "pinflow_batch_records"
BatchTotals = dict[str, tuple[float, float]]
"""Sums of records and of batches since the start, by consumer."""


def read_batch_totals(urls: Iterable[str]) -> BatchTotals:
    """Adds up the totals of all replicas. Skips services that don't answer: some are stopped."""
    totals: BatchTotals = {}
    for url in urls:
        try:
            text = httpx.get(f"{url}/metrics", timeout=10, trust_env=False).text
        except httpx.TransportError:
            continue
        samples = {
            (sample.name, sample.labels["consumer"]): sample.value
            for family in text_string_to_metric_families(text)
            if family.name == METRIC
            for sample in family.samples
        }
        counts = {
            consumer: value
            for (name, consumer), value in samples.items()
            if name == f"{METRIC}_count"
        }
        for consumer, count in counts.items():
            records_before, batches_before = totals.get(consumer, (0.0, 0.0))
            totals[consumer] = (
                records_before + samples[f"{METRIC}_sum", consumer],
                batches_before + count,
            )
    return totals


def compute_mean_batch_sizes(before: BatchTotals, after: BatchTotals) -> dict[str, float]:
    """Returns each consumer's mean number of records in a batch between two readings."""
    means: dict[str, float] = {}
    for consumer, (records, count) in after.items():
        earlier_records, earlier_count = before.get(consumer, (0.0, 0.0))
        if count > earlier_count:
            means[consumer] = round((records - earlier_records) / (count - earlier_count), 1)
    return means
