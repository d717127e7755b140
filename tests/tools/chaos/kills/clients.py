"""Ingest's acceptance as the kills use it: several instances that append imports, and probes of
each partition.
"""

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
from tests.support.acceptance_log import acceptance_of
from tests.tools.chaos.kills.imports import ImportFactory
from tests.tools.chaos.kills.ledger import AppendOutcome, Ledger, summarize_batch

INSTANCES = 3
IMPORTS_AT_ONCE = 3
"""Of each instance."""
PROBE_ROWS = 2
PROBE_SECONDS = 90
"""Within which every partition must accept an import after a kill."""
RETRY_SECONDS = 0.05


class Answer(NamedTuple):
    """The outcome of one import, and where it went."""

    outcome: AppendOutcome
    partition: int


class Clients:
    """Appends imports through several acceptances and notes them in the ledger."""

    def __init__(
        self, acceptances: list[KafkaImportLog], factory: ImportFactory, ledger: Ledger
    ) -> None:
        self._acceptances = acceptances
        self._factory = factory
        self._ledger = ledger
        self._prepared: deque[tuple[UUID, ImportBatch]] = deque()

    def prepare(self, imports: int) -> None:
        """Builds imports beforehand: building one takes some milliseconds, for which a kill would
        be late.
        """
        while len(self._prepared) < imports:
            self._prepared.append(self._factory.build())

    async def work(self, goes_on: Callable[[Answer], bool]) -> None:
        """Appends imports with all instances; each task ends when `goes_on` says so of its last
        answer.
        """

        async def work(acceptance: KafkaImportLog) -> None:
            goes = True
            while goes:
                made = self._prepared.popleft() if self._prepared else self._factory.build()
                goes = goes_on(await self._append(acceptance, *made))

        await asyncio.gather(
            *(work(acceptance) for acceptance in self._acceptances * IMPORTS_AT_ONCE)
        )

    async def probe(self) -> set[int]:
        """Waits until every partition accepts an import. Returns those that did not in time."""

        async def probe(partition: int) -> None:
            acceptance = self._acceptances[partition % len(self._acceptances)]
            while True:
                made = self._factory.build(rows=PROBE_ROWS, partition=(partition, PARTITIONS))
                if (await self._append(acceptance, *made)).outcome is AppendOutcome.ACKNOWLEDGED:
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

    async def _append(self, acceptance: KafkaImportLog, job_id: UUID, batch: ImportBatch) -> Answer:
        self._ledger.send(job_id, summarize_batch(batch))
        try:
            await acceptance.append(batch)
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
    """Gives clients with so many acceptances, connected."""
    async with AsyncExitStack() as stack:
        replicas = [
            settings.model_copy(update={"replica": str(number)}) for number in range(instances)
        ]
        acceptances = [await stack.enter_async_context(acceptance_of(one)) for one in replicas]
        yield Clients(acceptances, factory, ledger)
