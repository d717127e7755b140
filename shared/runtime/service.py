"""How a service runs: one process of an HTTP server, consumers and sweepers, that ends when any
part of it is lost.
"""

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import structlog
import uvicorn
from fastapi import FastAPI

from shared.contract.errors import Unavailable
from shared.http.health import Health
from shared.kafka.admin import leave_group, require_topics
from shared.kafka.consumer import BatchConsumer
from shared.postgres.lease import ReplicaLease
from shared.runtime.periodic import Sweeper
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

RETRY_SECONDS = 0.5
LOST_SECONDS = 60.0
"""A process that has lost a part is gone after so long, whether it could stop or not. (A stop from
outside has its supervisor's limit.)
"""


class Part(Protocol):
    """Something with a life of its own that needs Kafka: a producer, a pool of them."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def trouble(self) -> str | None:
        """Why it can't do its work now, or None."""


class Machinery:
    """What a service does besides answering requests: its lease, producers, consumers and sweepers.

    It starts in the background, in this order, each step waiting for its server as long as it
    takes, so that HTTP can answer 503 meanwhile. A part that ends on its own calls `on_lost`: the
    process stops, and its supervisor starts another.
    """

    def __init__(
        self,
        service: str,
        settings: ServiceSettings,
        *,
        parts: Sequence[Part] = (),
        consumers: Sequence[BatchConsumer] = (),
        sweepers: Sequence[Sweeper] = (),
    ) -> None:
        self._settings = settings
        self._lease = ReplicaLease(service, settings)
        self._parts = parts
        self._consumers = consumers
        self._sweepers = sweepers
        self._tasks: set[asyncio.Task[None]] = set()
        self._running_parts: list[Part] = []
        self._joining = False
        self._stopping = False
        self.started = False
        self.on_lost: Callable[[], None] = lambda: None

    def watch_over(self, health: Health) -> None:
        """Tell `health` what does not do its work."""
        health.add("machinery", self.trouble)

    async def trouble(self) -> str | None:
        if not self.started:
            return "starting, or waiting for Kafka, its topics or Postgres"
        troubles = [
            f"{consumer.title}: {trouble}"
            for consumer in self._consumers
            if (trouble := consumer.trouble())
        ]
        troubles += [trouble for part in self._parts if (trouble := part.trouble())]
        troubles += [trouble for sweeper in self._sweepers if (trouble := sweeper.trouble())]
        return "; ".join(troubles) or None

    def start(self) -> None:
        self._spawn("machinery", self._run())

    async def _run(self) -> None:
        await self._lease.acquire()
        await until_available("kafka", lambda: require_topics(self._settings))
        for part in self._parts:
            self._running_parts.append(part)
            await part.start()
        for consumer in (
            self._consumers
        ):  # before their start, which waits for partitions and could do so for ever
            self._spawn(consumer.title, consumer.watch())
        self._joining = True
        await asyncio.gather(*(consumer.start() for consumer in self._consumers))
        for sweeper in self._sweepers:
            self._spawn(sweeper.name, sweeper.run())
        self.started = True
        log.info("started")
        await self._lease.keep()

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._stopping:  # cancelled by nobody here: a library lets that out, too
            log.critical(
                "part_lost",
                part=task.get_name(),
                exc_info=None if task.cancelled() else task.exception(),
            )
            self.on_lost()

    async def stop(self) -> None:
        """Finish the batches in flight within the stop timeout; give back the partitions, the
        producers and the name.
        """
        self._stopping = True
        for consumer in self._consumers:
            consumer.interrupt()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for failed in await asyncio.gather(
            *(consumer.stop() for consumer in self._consumers), return_exceptions=True
        ):
            if (
                failed is not None
            ):  # a client that has died raises what it died of; the rest is stopped all the same
                log.warning("stop_failed", error=repr(failed))
        if self._joining:
            await asyncio.gather(
                *(
                    leave_group(self._settings, one.group, one.group_instance_id)
                    for one in self._consumers
                )
            )
        for part in reversed(self._running_parts):
            await part.stop()
        await self._lease.release()


def lifespan_of(
    machinery: Machinery, *closing: Callable[[], Awaitable[None]]
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The lifespan of a service's application: its machinery; after that has stopped, what it used
    is closed.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        machinery.start()
        yield
        await machinery.stop()
        for close in closing:
            await close()

    return lifespan


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Run until SIGTERM: stop accepting, finish what is in flight, end the lifespan. Exits with 1
    when a part was lost.

    `app.state.machinery` is the service's Machinery.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            forwarded_allow_ips=settings.trusted_proxies,
            # Longer than the gateway keeps idle connections, or it would send into a closed one
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(settings.stop_timeout_seconds),
        )
    )
    lost = False

    def stop() -> None:
        nonlocal lost
        lost = server.should_exit = True
        _end_within(LOST_SECONDS)

    app.state.machinery.on_lost = stop
    spare_the_collector()
    server.run()
    if lost or not server.started:
        raise SystemExit(1)


def _end_within(seconds: float) -> None:
    # Whatever was lost may be what stopping waits for. A thread: the event loop may be what is lost
    timer = threading.Timer(seconds, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    log.critical("stop_hangs", next="ended all the same: what was not committed is done again")
    os._exit(1)


def spare_the_collector() -> None:
    """Of Python's cycles: once, after everything is imported."""
    # A batch keeps thousands of rows alive for a moment: with Python's thresholds the collector
    # walks them, and all that was imported, again and again (measured: two thirds of a settlement's
    # CPU). Nothing here makes cycles by the thousand.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()  # the services' __main__ has switched it off


async def until_available(what: str, attempt: Callable[[], Awaitable[None]]) -> None:
    """Repeat `attempt` while it raises Unavailable: a service that starts before its servers waits
    for them.
    """
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            log.warning("waiting", what=what, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)
