"""The one place that builds the webhooks service."""

from datetime import timedelta

from fastapi import FastAPI

from services.webhooks.config import BACKGROUND_CONNECTIONS, WebhooksSettings
from services.webhooks.consumer import EventHandler
from services.webhooks.delivery.concurrency import Slots
from services.webhooks.delivery.connections import CheckedBackend, Resolver
from services.webhooks.delivery.repository import DeliveryStore
from services.webhooks.delivery.retention import CLEAN_SECONDS, LOOK_SECONDS, Cleaner, Lateness
from services.webhooks.delivery.sender import Sender
from services.webhooks.delivery.worker import Courier
from services.webhooks.subscriptions.endpoints import Ports, router
from services.webhooks.subscriptions.repository import WebhookRegistry
from shared.access.authentication import Authenticator
from shared.access.repository import AccessRepository
from shared.access.usage import KeyUsage
from shared.contract.import_limits import MEBIBYTE
from shared.contract.topics import TopicName
from shared.http.app import add_process_endpoints, create_api
from shared.http.health import Health
from shared.kafka.consumer import BatchConsumer
from shared.kafka.producer import RecordProducer
from shared.kafka.subscription import Acknowledgement, FetchSettings, Subscription
from shared.postgres.database import Database
from shared.runtime.periodic import Sweeper
from shared.runtime.service import Machinery, lifespan_of

EVENT_BYTES, PARTITION_BYTES = 4 * MEBIBYTE, 8 * MEBIBYTE
"""Of events in a fetch: as many as make it worth while, 7000; and at most of one partition: so one
workspace that imports alone has 16 MB a second, 28 000 events.
"""

DORMANCY_SECONDS = 1.0
"""How often it is looked whether there is any webhook: what the first one's first delivery may wait
longer.
"""


def create_app(settings: WebhooksSettings) -> FastAPI:
    """Makes everything and starts nothing: that is the lifespan's."""
    # Apart from HTTP's: requests that wait for a connection, or hold one for long, must not keep
    # events from being delivered
    database = Database.of(
        settings, application="pinflow-webhooks", connections=BACKGROUND_CONNECTIONS
    )
    http_connections = settings.database_pool_size - BACKGROUND_CONNECTIONS
    http_database = Database.of(
        settings, application="pinflow-webhooks-http", connections=http_connections
    )
    access = AccessRepository(http_database)
    usage = KeyUsage(access)
    store = DeliveryStore(database)
    resolver = Resolver(
        2 * settings.webhook_deliveries_at_once
    )  # an attempt that is over may leave a look-up behind
    courier = _courier(settings, store, resolver)
    producer = RecordProducer(settings, client_id=f"pinflow-webhooks-{settings.replica}")
    consumer = BatchConsumer(
        Subscription(
            name="webhooks",
            topics=(TopicName.PIN_EVENTS, TopicName.JOB_EVENTS),
            isolation="read_uncommitted",
            offset_reset="none",
            acknowledgement=Acknowledgement.POSITION_WITH_WORK,
            max_records=settings.event_records,
            fetch=FetchSettings(EVENT_BYTES, settings.event_wait_ms, PARTITION_BYTES),
        ),
        settings,
        EventHandler(store, courier),
        producer,
        is_wanted=store.anyone_listens,
        positions=store.positions,
    )
    cleaner = Cleaner(store, timedelta(days=settings.webhook_retention_days))
    machinery = Machinery(
        "webhooks",
        settings,
        parts=[producer, courier],
        consumers=[consumer],
        sweepers=[
            Sweeper("dormancy", consumer.dormancy.look, interval_seconds=DORMANCY_SECONDS),
            Sweeper("courier", courier.sweep, interval_seconds=settings.webhook_interval_seconds),
            Sweeper("cleaner", cleaner.sweep, interval_seconds=CLEAN_SECONDS),
            Sweeper("lateness", Lateness(store).sweep, interval_seconds=LOOK_SECONDS),
            usage.sweeper(),
        ],
    )

    health = Health()
    machinery.watch_over(health)

    async def close_resolver() -> None:
        resolver.close()

    app = create_api(
        "webhooks",
        summary="Tells whoever asked what became of pins and imports.",
        lifespan=lifespan_of(machinery, database.dispose, http_database.dispose, close_resolver),
        health=health,
        concurrency=settings.http_concurrency,
    )
    app.state.machinery = machinery
    app.state.authenticator = Authenticator(access, settings, used=usage.note)
    app.state.ports = Ports(
        settings, WebhookRegistry(http_database, settings.webhooks_per_workspace), courier
    )
    app.include_router(router)
    add_process_endpoints(app)
    return app


def _courier(settings: WebhooksSettings, store: DeliveryStore, resolver: Resolver) -> Courier:
    at_once = settings.webhook_deliveries_at_once
    backend = CheckedBackend(settings.address_rules, resolver)
    sender = Sender(
        backend,
        seconds=settings.webhook_timeout_seconds,
        at_once=at_once,
        ca_file=settings.webhook_ca_file,
    )
    return Courier(
        store,
        sender,
        settings.retry_policy,
        Slots(
            at_once,
            each=settings.webhook_deliveries_at_once_each,
            each_workspace=settings.webhook_deliveries_at_once_workspace,
            failing=settings.webhook_deliveries_at_once_failing,
        ),
        lease_seconds=settings.lease_seconds,
        interval_seconds=settings.webhook_interval_seconds,
        stop_seconds=settings.stop_timeout_seconds,
        patience=settings.patience,
    )
