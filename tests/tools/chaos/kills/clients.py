"""Appends imports like several replicas of ingest, and probes each partition."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple
from uuid import UUID

from services.ingest.config import IngestSettings
from services.ingest.import_log import KafkaImportLog
from services.ingest.records import ImportBatch
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable
from shared.contract.topics import PARTITIONS
from shared.kafka.producer import choose_partition
from tests.support.import_log import open_import_log
from tests.tools.chaos.kills.imports import ImportFactory
from tests.tools.chaos.kills.ledger import AppendOutcome, Ledger, summarize_batch

INSTANCES = 3
IMPORTS_AT_ONCE = 3
"""The number of concurrent imports of each instance."""
PROBE_ROWS = 2
PROBE_SECONDS = 90
"""The time within which every partition must accept an import after a kill."""
RETRY_SECONDS = 0.05


class Answer(NamedTuple):
    """The outcome of one import, and its partition."""

    outcome: AppendOutcome
    partition: int


class Clients:
    """Appends imports through several import logs and records them in the ledger."""

    def __init__(
        self, import_logs: list[KafkaImportLog], factory: ImportFactory, ledger: Ledger
    ) -> None:
        self._import_logs = import_logs
        self._factory = factory
        self._ledger = ledger
        self._prepared: deque[tuple[UUID, ImportBatch]] = deque()

    def prepare(self, imports: int) -> None:
        """Builds imports in advance, because building one would delay a kill by milliseconds."""
        while len(self._prepared) < imports:
            self._prepared.append(self._factory.build())

    async def append_while(self, should_continue: Callable[[Answer], bool]) -> None:
        """Appends imports with all instances.

        Each task ends when `should_continue` returns False for its last answer.
        """

        async def work(import_log: KafkaImportLog) -> None:
            continues = True
            while continues:
                built = self._prepared.popleft() if self._prepared else self._factory.build()
                continues = should_continue(await self._append(import_log, *built))

        await asyncio.gather(
            *(work(import_log) for import_log in self._import_logs * IMPORTS_AT_ONCE)
        )

    async def probe(self) -> set[int]:
        """Waits until every partition accepts an import. Returns the late partitions."""

        async def probe(partition: int) -> None:
            import_log = self._import_logs[partition % len(self._import_logs)]
            while True:
                built = self._factory.build(rows=PROBE_ROWS, partition=(partition, PARTITIONS))
                if (await self._append(import_log, *built)).outcome is AppendOutcome.ACKNOWLEDGED:
                    return
                await asyncio.sleep(RETRY_SECONDS)

        probes = {
            partition: asyncio.create_task(probe(partition)) for partition in range(PARTITIONS)
        }
        _, late = await asyncio.wait(probes.values(), timeout=PROBE_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in probes.values():
            if not task.cancelled():
                task.result()
        return {partition for partition, task in probes.items() if task in late}

    async def _append(self, import_log: KafkaImportLog, job_id: UUID, batch: ImportBatch) -> Answer:
        self._ledger.send(job_id, summarize_batch(batch))
        try:
            await import_log.append(batch)
        except AcceptanceUnknown:
            outcome = AppendOutcome.UNKNOWN
        except BrokerUnavailable:
            outcome = AppendOutcome.REFUSED
        else:
            outcome = AppendOutcome.ACKNOWLEDGED
        self._ledger.settle(job_id, outcome)
        return Answer(outcome, choose_partition(batch.key, PARTITIONS))


@asynccontextmanager
async def open_clients(
    settings: IngestSettings, factory: ImportFactory, ledger: Ledger, instances: int = INSTANCES
) -> AsyncIterator[Clients]:
    """Connects `instances` import logs and yields their clients."""
    async with AsyncExitStack() as stack:
        replicas = [
            settings.model_copy(update={"replica": str(number)}) for number in range(instances)
        ]
        import_logs = [
            await stack.enter_async_context(open_import_log(replica)) for replica in replicas
        ]
        yield Clients(import_logs, factory, ledger)
