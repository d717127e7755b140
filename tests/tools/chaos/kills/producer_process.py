"""Appends imports until it is killed.

python -m tests.tools.chaos.kills.producer_process KAFKA PREFIX SEED prints `sending JOB RECORDS
CHECKSUM` before it appends an import, and `OUTCOME JOB` after the answer.
"""

import asyncio
import os
import sys
from random import Random

from services.ingest.config import IngestSettings
from services.ingest.import_log import KafkaImportLog
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable
from tests.support.import_log import open_import_log
from tests.tools.chaos.kills.imports import ImportFactory
from tests.tools.chaos.kills.ledger import AppendOutcome, summarize_batch
from tests.tools.chaos.kills.logs import silence_logs

TASKS = 2
LARGE_ROW_BYTES = (300, 5000)
"""The random bytes in a row. A batch of about 1 MB takes several writes to the socket."""


async def main(kafka: str, prefix: str, seed: int) -> None:
    """Appends imports with two tasks until the process ends."""
    settings = IngestSettings(kafka_bootstrap_servers=kafka, topic_prefix=prefix)
    factory = ImportFactory(Random(seed), LARGE_ROW_BYTES)
    async with open_import_log(settings) as import_log:
        await asyncio.gather(*(_work(import_log, factory) for _ in range(TASKS)))


async def _work(import_log: KafkaImportLog, factory: ImportFactory) -> None:
    while True:
        job_id, batch = factory.build()
        content = summarize_batch(batch)
        _print(f"sending {job_id} {content.records} {content.checksum}")
        try:
            await import_log.append(batch)
        except AcceptanceUnknown:
            _print(f"{AppendOutcome.UNKNOWN} {job_id}")
        except BrokerUnavailable:
            _print(f"{AppendOutcome.REFUSED} {job_id}")
        else:
            _print(f"{AppendOutcome.ACKNOWLEDGED} {job_id}")


def _print(line: str) -> None:
    # A single write, so that a kill never leaves half a line
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


if __name__ == "__main__":
    silence_logs()
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
