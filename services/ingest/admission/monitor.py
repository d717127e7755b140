"""Keeps admission told of the backlog: often while imports come or rows are settled, else now and
then.
"""

import asyncio
import contextlib
import time

import structlog

from services.ingest.admission.backlog import Reading
from services.ingest.admission.limits import Admission
from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.lag import GroupOffsets, LagReader
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

PUBLISHER = "publisher"
"""The service whose group settles rows."""
INTERVAL_SECONDS = 0.25
"""At twenty thousand rows a second, five thousand rows."""
IDLE_SECONDS = 2.0
RETRY_SECONDS = 1.0


class BacklogWatch:
    """A part of the process that never holds up another: without news imports are let in, and the
    log says so once.
    """

    def __init__(self, settings: ServiceSettings, admission: Admission) -> None:
        names = TopicNames(settings.topic_prefix)
        client_id = f"pinflow-ingest-{settings.replica}-backlog"
        self._reader = LagReader(
            settings,
            topic=names[TopicName.IMPORTS],
            group=names.group(PUBLISHER),
            client_id=client_id,
        )
        self._admission = admission
        self._fails = False
        self._last: GroupOffsets | None = None
        self._moves = True
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns after the first reading, or failure: a process that starts anew knows of the
        backlog before it accepts anything.
        """
        await self._look()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._reader.close()

    def problem(self) -> str | None:
        return None

    async def _run(self) -> None:
        while True:
            await self._pause()
            await self._look()

    async def _pause(self) -> None:
        if self._fails:
            await asyncio.sleep(RETRY_SECONDS)
            return
        await asyncio.sleep(INTERVAL_SECONDS)
        if not self._moves:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._admission.asked.wait()
        self._admission.asked.clear()

    async def _look(self) -> None:
        try:
            offsets = await self._reader.read()
        except BrokerUnavailable as error:
            if not self._fails:
                log.warning(
                    "backlog_unknown",
                    error=str(error),
                    next="imports are let in unlimited until Kafka tells again",
                )
            self._fails = True
        except Exception:
            log.exception("backlog_failed")
            self._fails = True
        else:
            if self._fails:
                log.info("backlog_known")
            self._fails = False
            self._moves, self._last = offsets != self._last, offsets
            self._admission.observe(Reading(time.monotonic(), offsets.ends, offsets.committed))
