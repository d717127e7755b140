"""Runs what a service does beside requests: its lease, producers, consumers and tasks."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

import structlog

from shared.contract.errors import Unavailable
from shared.http.health import Health
from shared.kafka.admin import leave_group, require_topics
from shared.kafka.consumer import BatchConsumer
from shared.postgres.lease import ReplicaLease
from shared.runtime.periodic import PeriodicTask
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

RETRY_SECONDS = 0.5


class Component(Protocol):
    """Runs beside the requests and needs Kafka: a producer, or a pool of producers."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def problem(self) -> str | None:
        """Tells why it cannot do its work now, or None."""


class ServiceRuntime:
    """Starts and stops a service's lease, components, consumers and periodic tasks, in this order.

    It starts in the background, and each step waits for its server as long as it takes. Meanwhile
    HTTP answers 503. If one of them ends by itself, `on_lost` is called: the process stops, and its
    supervisor starts another.
    """

    def __init__(
        self,
        service: str,
        settings: ServiceSettings,
        *,
        components: Sequence[Component] = (),
        consumers: Sequence[BatchConsumer] = (),
        periodic_tasks: Sequence[PeriodicTask] = (),
    ) -> None:
        self._settings = settings
        self._lease = ReplicaLease(service, settings)
        self._components = components
        self._consumers = consumers
        self._periodic_tasks = periodic_tasks
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: list[Component] = []
        self._joining = False
        self._stopping = False
        self.started = False
        self.on_lost: Callable[[], None] = lambda: None

    def register_checks(self, health: Health) -> None:
        """Adds a check that tells which of them does not do its work."""
        health.add("runtime", self.problem)

    async def problem(self) -> str | None:
        if not self.started:
            return "starting, or waiting for Kafka, its topics or Postgres"
        problems = [
            f"{consumer.title}: {problem}"
            for consumer in self._consumers
            if (problem := consumer.problem())
        ]
        problems += [problem for component in self._components if (problem := component.problem())]
        problems += [problem for task in self._periodic_tasks if (problem := task.problem())]
        return "; ".join(problems) or None

    def start(self) -> None:
        self._spawn("runtime", self._run())

    async def _run(self) -> None:
        await self._lease.acquire()
        if self._components or self._consumers:
            await wait_until_available("kafka", lambda: require_topics(self._settings))
        for component in self._components:
            self._running.append(component)
            await component.start()
        # Before they start, which waits for partitions and could do so for ever
        for consumer in self._consumers:
            self._spawn(consumer.title, consumer.watch())
        self._joining = True
        await asyncio.gather(*(consumer.start() for consumer in self._consumers))
        for task in self._periodic_tasks:
            self._spawn(task.name, task.run())
        self.started = True
        log.info("started")
        await self._lease.keep()

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_end)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._stopping:  # cancelled by nobody here: a library lets that out, too
            log.critical(
                "component_lost",
                component=task.get_name(),
                exc_info=None if task.cancelled() else task.exception(),
            )
            self.on_lost()

    async def stop(self) -> None:
        """Finishes the batches in flight within the stop timeout, then releases partitions,
        producers and the replica's name.
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
            # A client that has died raises what it died of; the rest is stopped all the same
            if failed is not None:
                log.warning("stop_failed", error=repr(failed))
        if self._joining:
            await asyncio.gather(
                *(
                    leave_group(self._settings, one.group, one.group_instance_id)
                    for one in self._consumers
                )
            )
        for component in reversed(self._running):
            await component.stop()
        await self._lease.release()


async def wait_until_available(what: str, attempt: Callable[[], Awaitable[None]]) -> None:
    """Repeats `attempt` while it raises Unavailable, so that a service waits for its servers."""
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            log.warning("waiting", what=what, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)
