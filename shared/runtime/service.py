"""Builds the parts that every service has. A service's app.py adds only its own parts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property

from fastapi import APIRouter, FastAPI

from shared.access.authentication import Authenticator
from shared.access.repository import AccessRepository
from shared.access.usage import KeyUsageClient, KeyUsageRecorder, KeyUsageStore
from shared.contract.topics import TopicName, TopicNames
from shared.http.app import add_process_endpoints, create_api
from shared.http.health import Health
from shared.http.installation import InstallationHeader
from shared.http.pagination.paginator import Paginator
from shared.kafka.consumer import BatchConsumer
from shared.kafka.producer import RecordProducer
from shared.postgres.database import Database
from shared.runtime.components import Component, ServiceRuntime
from shared.runtime.periodic import PeriodicTask
from shared.runtime.settings import ListSettings, ServiceSettings

Close = Callable[[], Awaitable[None]]


class Service:
    """Holds the common parts of one service: connection pools, access, a producer and health.

    With `background_connections`, `database` is a separate pool of that many connections, for
    consumers and periodic tasks. `http_database` has the rest of PINFLOW_DATABASE_POOL_SIZE. So
    slow requests can't block background work. Without it, both are the same pool.

    The producer compresses what it sends to `compressed_topics`.
    """

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        *,
        background_connections: int = 0,
        compressed_topics: Collection[TopicName] = (),
    ) -> None:
        self.name = name
        self.topics = TopicNames(settings.topic_prefix)
        self._compressed_topics = [self.topics[name] for name in compressed_topics]
        self.health = Health()
        self._settings = settings
        self.http_connections = settings.database_pool_size - background_connections
        self.http_database = self.database = self._pool("", self.http_connections)
        if background_connections:
            self.database = self._pool("", background_connections)
            self.http_database = self._pool("-http", self.http_connections)
        self.access = AccessRepository(self.http_database)

    def _pool(self, suffix: str, connections: int) -> Database:
        application = f"pinflow-{self.name}{suffix}"
        return Database.from_settings(
            self._settings, application=application, connections=connections
        )

    @cached_property
    def producer(self) -> RecordProducer:
        """The service's producer, created at first use. Services without it need no Kafka."""
        client_id = f"pinflow-{self.name}-{self._settings.replica}"
        return RecordProducer(
            self._settings, client_id=client_id, compressed_topics=self._compressed_topics
        )

    def paginator(self, settings: ListSettings) -> Paginator:
        """Creates the paginator of lists, which leaves a connection to other requests if it can."""
        return Paginator(
            self.http_database, settings, concurrency=max(1, self.http_connections - 1)
        )

    def create_app(
        self,
        *,
        summary: str,
        dependencies: object,
        routers: Sequence[APIRouter],
        consumers: Sequence[BatchConsumer] = (),
        components: Sequence[Component] = (),
        tasks: Sequence[PeriodicTask] = (),
        closing: Sequence[Close] = (),
        used_keys: KeyUsageStore | None = None,
        add_endpoints: Callable[[FastAPI], None] = add_process_endpoints,
    ) -> FastAPI:
        """Creates the application. Starts nothing: the application's lifespan does that.

        Endpoints receive `dependencies` (shared/http/dependencies.py). `closing` runs after
        everything has stopped, and before the database pools are closed. Used API keys are reported
        to `used_keys`, by default to the access service.
        """
        settings = self._settings
        if used_keys is None:
            used_keys = client = KeyUsageClient(settings.access_url)
            closing = [client.close, *closing]
        usage = KeyUsageRecorder(used_keys)
        producers = [self.producer] if "producer" in self.__dict__ else []
        runtime = ServiceRuntime(
            self.name,
            settings,
            components=[*producers, *components],
            consumers=consumers,
            periodic_tasks=[*tasks, usage.periodic_task()],
        )
        runtime.register_checks(self.health)
        pools = dict.fromkeys([self.database, self.http_database])
        app = create_api(
            self.name,
            summary=summary,
            lifespan=_build_lifespan(runtime, [*closing, *(pool.dispose for pool in pools)]),
            health=self.health,
            concurrency=settings.http_concurrency,
        )
        if settings.installation:
            app.add_middleware(InstallationHeader, installation=settings.installation)
        app.state.runtime = runtime
        app.state.authenticator = Authenticator(self.access, settings, on_use=usage.record)
        app.state.dependencies = dependencies
        app.state.internal_token = settings.internal_token
        for router in routers:
            app.include_router(router)
        add_endpoints(app)
        return app


def _build_lifespan(
    runtime: ServiceRuntime, closing: Sequence[Close]
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        runtime.start()
        yield
        await runtime.stop()
        for close in closing:
            await close()

    return lifespan
