"""(c) FastStream on Kafka, a message a row."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.kafka.admin import create_topics
from shared.runtime.settings import KafkaSettings
from tests.support.kafka import delete_topics
from tests.tools.bench.peers.peer import TOPIC_PREFIX, PeerServers
from tests.tools.bench.peers.processes import WEB, RunningProcesses, start_processes


class FastStreamPeer:
    name = "FastStream on Kafka, a message a row"
    missing_features = (
        (
            "Job and rows are written apart, to Postgres and to Kafka: a crash in between leaves a "
            "job that never ends."
        ),
        (
            "An import's messages are not one record batch: a producer that fails half way may "
            "leave some of them."
        ),
        (
            "No dead letters: a message that can't be read, or that Postgres refuses, comes again "
            "for ever and stops its partition."
        ),
        (
            "A rebalance does not wait for handlers: a row may be in work twice (the results' key "
            "holds, a side effect would not)."
        ),
        (
            "No events for others, no schedules, no accounts and boards checked, no telling "
            "whether an existing row's content matches."
        ),
    )
    uses = ("kafka", "postgres")
    max_unsettled_imports = 4

    @contextmanager
    def running(self, servers: PeerServers, directory: Path) -> Iterator[RunningProcesses]:
        settings = KafkaSettings(
            kafka_bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=TOPIC_PREFIX
        )
        asyncio.run(create_topics(settings))
        modules = {
            WEB: (sys.executable, "-m", "tests.tools.bench.peers.faststream_web"),
            "worker": (sys.executable, "-m", "tests.tools.bench.peers.faststream_worker"),
        }
        try:
            with start_processes(
                servers, directory, schema="peer_faststream", modules=modules
            ) as running:
                yield running
        finally:
            asyncio.run(delete_topics(settings))
