"""Scenario of imports that are requested through the topic, as upstream systems do."""

from shared.contract.topics import TopicName, TopicNames
from shared.kafka.producer import RecordProducer
from shared.runtime.settings import KafkaSettings
from tests.tools.bench.figures import Figures
from tests.tools.bench.load import Load
from tests.tools.bench.scenarios.bench import CONCURRENCY, MAX_UNSETTLED_IMPORTS, Bench
from tests.tools.bench.sources import TopicSource


def topic(bench: Bench) -> Figures:
    """Requests imports as fast as they settle.

    There is no 202: `acknowledged_ms` is the time until the broker acknowledges the request.
    """
    installation = bench.installation
    settings = KafkaSettings(kafka_bootstrap_servers=installation.servers.bootstrap_servers)
    producer = RecordProducer(settings, client_id="bench-upstream")
    name = TopicNames(installation.topic_prefix)[TopicName.IMPORT_REQUESTS]
    load = Load(
        installation.base_url,
        [
            TopicSource(workspace, producer, name)
            for workspace in installation.new_workspaces(CONCURRENCY)
        ],
    )

    async def request() -> float:
        await producer.start()
        try:
            return await load.saturate(
                bench.lengths.short_seconds, CONCURRENCY, MAX_UNSETTLED_IMPORTS
            )
        finally:
            await producer.stop()

    figures = bench.measure_load(load, request())
    return {**figures, "acknowledged_ms": figures.pop("accepted_ms")}
