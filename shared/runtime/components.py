"""Runs a service's background work: its lease, producers, consumers and periodic tasks."""

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
    """A part of a service that runs in the background and needs Kafka, for example a producer."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def problem(self) -> str | None:
        """Returns why it can't work now, or None. Readiness reports it."""


class ServiceRuntime:
    """Starts a service's lease, components, consumers and periodic tasks, in this order.

    Stops them in the reverse order. Starts in the background. Waits for Postgres, for Kafka's
    topics and for partitions without a limit, and /readyz answers 503 meanwhile. If a part fails to
    start or ends unexpectedly, `on_lost` is called. It stops the process, and the supervisor starts
    a new one.
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
        """Adds the readiness check "runtime"."""
        health.add("runtime", self.problem)

    async def problem(self) -> str | None:
        """Returns which of the service's parts do not work, and why, or None."""
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
        """Starts everything in the background, and returns at once."""
        self._spawn("runtime", self._run())

    async def _run(self) -> None:
        await self._lease.acquire()
        if self._components or self._consumers:
            await wait_until_available("kafka", lambda: require_topics(self._settings))
        for component in self._components:
            self._running.append(component)
            await component.start()
        # Watched before they start: a start waits for partitions, possibly forever
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
        if not self._stopping:  # even if canceled: a library's cancellation may escape into a task
            log.critical(
                "component_lost",
                component=task.get_name(),
                exc_info=None if task.cancelled() else task.exception(),
            )
            self.on_lost()

    async def stop(self) -> None:
        """Finishes the batches in flight, then releases partitions, producers and the lease.

        Waits for each batch for at most the stop timeout.
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
            # A dead client raises the error that ended it. The other consumers stop anyway
            if failed is not None:
                log.warning("stop_failed", error=repr(failed))
        if self._joining:
            await asyncio.gather(
                *(
                    leave_group(self._settings, consumer.group, consumer.group_instance_id)
                    for consumer in self._consumers
                )
            )
        for component in reversed(self._running):
            await component.stop()
        await self._lease.release()


async def wait_until_available(server: str, attempt: Callable[[], Awaitable[None]]) -> None:
    """Repeats `attempt` until it stops raising Unavailable."""
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            log.warning("server_unavailable", server=server, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)
