"""Samples the publisher's lag for admission control.

It samples often while imports arrive or rows are settled, and rarely otherwise.
"""

import asyncio
import contextlib
import time

import structlog

from services.ingest.admission.backlog import STALE_AFTER_SECONDS, LagSample
from services.ingest.admission.control import AdmissionControl
from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.lag import GroupOffsets, LagReader
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

PUBLISHER = "publisher"
"""The service whose consumer group settles rows."""
SAMPLE_SECONDS = 0.25
"""Seconds between two samples. At 20 000 rows a second, 5000 rows arrive in between."""
MAX_IDLE_SECONDS = 2.0
"""Further seconds between two samples while offsets do not change and no import arrives."""
RETRY_SECONDS = 1.0


class BacklogMonitor:
    """Samples the lag in the background and never makes the process unready.

    If samples fail for STALE_AFTER_SECONDS, the backlog no longer limits imports. The log has one
    warning for each series of failures.
    """

    def __init__(self, settings: ServiceSettings, admission: AdmissionControl) -> None:
        names = TopicNames(settings.topic_prefix)
        client_id = f"pinflow-ingest-{settings.replica}-backlog"
        self._reader = LagReader(
            settings,
            topic=names[TopicName.IMPORTS],
            group=names.group(PUBLISHER),
            client_id=client_id,
        )
        self._admission = admission
        self._is_failing = False
        self._last_offsets: GroupOffsets | None = None
        self._is_changing = True
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns after the first sample or failure.

        So a restarted process knows the backlog before it accepts imports.
        """
        await self._take_sample()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._reader.close()

    def problem(self) -> str | None:
        """Returns None, because imports are also accepted without samples."""
        return None

    async def _run(self) -> None:
        while True:
            await self._wait_for_next_sample()
            await self._take_sample()

    async def _wait_for_next_sample(self) -> None:
        if self._is_failing:
            await asyncio.sleep(RETRY_SECONDS)
            return
        await asyncio.sleep(SAMPLE_SECONDS)
        if not self._is_changing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAX_IDLE_SECONDS):
                    await self._admission.sample_requested.wait()
        self._admission.sample_requested.clear()

    async def _take_sample(self) -> None:
        try:
            offsets = await self._reader.read()
        except BrokerUnavailable as error:
            if not self._is_failing:
                log.warning(
                    "backlog_unavailable",
                    error=str(error),
                    next=(
                        "check Kafka, and that its ACLs let ingest describe the publisher's group; "
                        f"after {STALE_AFTER_SECONDS:g} s without a sample, the backlog no longer "
                        "limits imports"
                    ),
                )
            self._is_failing = True
        except Exception:
            log.exception("backlog_read_failed")
            self._is_failing = True
        else:
            if self._is_failing:
                log.info("backlog_available")
            self._is_failing = False
            self._is_changing, self._last_offsets = offsets != self._last_offsets, offsets
            self._admission.observe(LagSample(time.monotonic(), offsets.ends, offsets.committed))
