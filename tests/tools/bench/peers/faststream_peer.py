"""Peer that uses FastStream on Kafka, with one message per row."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.kafka.admin import create_topics
from shared.runtime.settings import KafkaSettings
from tests.support.kafka import delete_topics
from tests.tools.bench.peers.peer import RESULTS_ONLY, TOPIC_PREFIX, PeerServers
from tests.tools.bench.peers.processes import WEB, RunningProcesses, start_processes


class FastStreamPeer:
    name = "FastStream on Kafka, one message per row"
    work = RESULTS_ONLY
    missing_features = (
        (
            "Job and rows are written separately, to Postgres and Kafka: a crash in between leaves "
            "a job that never ends."
        ),
        (
            "An import's messages are not one record batch: a producer that fails may leave only "
            "some of them."
        ),
        (
            "No dead letters: a message that can't be read, or that Postgres refuses, is "
            "redelivered forever and stops its partition."
        ),
        (
            "A rebalance does not wait for handlers: a row may be processed twice at once. The "
            "results' key prevents duplicates, but side effects would be repeated."
        ),
        (
            "No events for consumers, no schedules, no checks of accounts and boards or of "
            "whether an existing row's content matches."
        ),
    )
    uses = ("kafka", "postgres")
    max_unsettled_imports = 4

    @contextmanager
    def start(self, servers: PeerServers, directory: Path) -> Iterator[RunningProcesses]:
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
