"""python -m tests.tools.chaos.kills.producer_process KAFKA PREFIX SEED: appends imports until it is
killed, and says what it does.

Prints `sending JOB RECORDS CHECKSUM` before it appends an import and `OUTCOME JOB` when it was
answered.
"""

import asyncio
import os
import sys
from random import Random

from services.ingest.config import IngestSettings
from services.ingest.import_log import KafkaImportLog
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable
from tests.support.acceptance_log import acceptance_of
from tests.tools.chaos.kills.imports import ImportFactory
from tests.tools.chaos.kills.ledger import AppendOutcome, summarize_batch
from tests.tools.chaos.kills.logs import silence_logs

TASKS = 2
LARGE_ROW = (300, 5000)
"""Bytes of noise in a row: a batch of about 1 MB takes several writes to its socket."""


async def main(kafka: str, prefix: str, seed: int) -> None:
    """Appends imports with two tasks until the process ends."""
    settings = IngestSettings(kafka_bootstrap_servers=kafka, topic_prefix=prefix)
    factory = ImportFactory(Random(seed), LARGE_ROW)
    async with acceptance_of(settings) as acceptance:
        await asyncio.gather(*(_work(acceptance, factory) for _ in range(TASKS)))


async def _work(acceptance: KafkaImportLog, factory: ImportFactory) -> None:
    while True:
        job_id, batch = factory.build()
        content = summarize_batch(batch)
        _say(f"sending {job_id} {content.records} {content.checksum}")
        try:
            await acceptance.append(batch)
        except AcceptanceUnknown:
            _say(f"{AppendOutcome.UNKNOWN} {job_id}")
        except BrokerUnavailable:
            _say(f"{AppendOutcome.REFUSED} {job_id}")
        else:
            _say(f"{AppendOutcome.ACKNOWLEDGED} {job_id}")


def _say(line: str) -> None:
    # one write: never half a line when it is killed
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


if __name__ == "__main__":
    silence_logs()
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
