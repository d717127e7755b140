"""Builds the webhooks service."""

from datetime import timedelta

from fastapi import FastAPI

from services.webhooks.config import BACKGROUND_CONNECTIONS, WebhooksSettings
from services.webhooks.consumer import EventHandler
from services.webhooks.delivery.concurrency import ConcurrencyLimits
from services.webhooks.delivery.connections import CheckedBackend, Resolver
from services.webhooks.delivery.repository import DeliveryRepository
from services.webhooks.delivery.retention import CLEAN_SECONDS, LOOK_SECONDS, Cleaner, Lateness
from services.webhooks.delivery.sender import Sender
from services.webhooks.delivery.worker import DeliveryWorker
from services.webhooks.dependencies import WebhooksDependencies
from services.webhooks.subscriptions.endpoints import router
from services.webhooks.subscriptions.repository import WebhookRepository
from services.webhooks.subscriptions.service import WebhookService
from shared.contract.import_limits import MEBIBYTE
from shared.contract.topics import TopicName
from shared.http.bodies import BodyReader
from shared.http.json_reader import JsonReader
from shared.kafka.consumer import BatchConsumer
from shared.kafka.subscription import Acknowledgement, FetchSettings, Subscription
from shared.runtime.periodic import PeriodicTask
from shared.runtime.service import Service

MIN_FETCH_BYTES = 4 * MEBIBYTE
"""Kafka answers a fetch when so much is there, about 7000 events, or after event_wait_ms."""
MAX_PARTITION_BYTES = 8 * MEBIBYTE
"""Bytes of one partition in a fetch. A workspace that imports alone gets 16 MB a second, 28 000
events."""

UNUSED_CHECK_SECONDS = 1.0
"""Seconds between a sleeping consumer's looks for a first webhook, whose event waits as long."""
BODIES_AT_ONCE = 16 * MEBIBYTE
"""Bytes. As many bodies at their limit as there may be requests at once."""


def create_app(settings: WebhooksSettings) -> FastAPI:
    """Makes everything and starts nothing: the application's lifespan does."""
    service = Service("webhooks", settings, background_connections=BACKGROUND_CONNECTIONS)
    store = DeliveryRepository(service.database)
    # Twice as many threads as attempts: a look-up may outlast its attempt
    resolver = Resolver(2 * settings.webhook_deliveries_at_once)
    worker = _worker(settings, store, resolver)
    consumer = BatchConsumer(
        Subscription(
            name="webhooks",
            topics=(TopicName.PIN_EVENTS, TopicName.JOB_EVENTS),
            isolation="read_uncommitted",
            offset_reset="none",
            acknowledgement=Acknowledgement.POSITION_WITH_WORK,
            max_records=settings.event_records,
            fetch=FetchSettings(MIN_FETCH_BYTES, settings.event_wait_ms, MAX_PARTITION_BYTES),
        ),
        settings,
        EventHandler(store, worker),
        service.producer,
        is_wanted=store.has_enabled_webhook,
        positions=store.positions,
    )
    cleaner = Cleaner(store, timedelta(days=settings.webhook_retention_days))

    async def close_resolver() -> None:
        resolver.close()

    return service.create_app(
        summary="Tells whoever asked what became of pins and imports.",
        dependencies=WebhooksDependencies(
            service=WebhookService(
                WebhookRepository(service.http_database),
                settings.address_rules,
                worker,
                settings.webhooks_per_workspace,
            ),
            reader=_reader(settings),
        ),
        routers=[router],
        components=[worker],
        consumers=[consumer],
        tasks=[
            PeriodicTask(
                "pause when unused",
                consumer.pause_when_unused.check,
                interval_seconds=UNUSED_CHECK_SECONDS,
            ),
            PeriodicTask(
                "delivery worker",
                worker.deliver_due,
                interval_seconds=settings.webhook_interval_seconds,
            ),
            PeriodicTask("cleaner", cleaner.delete_old_deliveries, interval_seconds=CLEAN_SECONDS),
            PeriodicTask("lateness", Lateness(store).measure, interval_seconds=LOOK_SECONDS),
        ],
        closing=[close_resolver],
    )


def _reader(settings: WebhooksSettings) -> JsonReader:
    limit = settings.webhook_body_limit
    bodies = BodyReader(
        limit_bytes=limit,
        timeout_seconds=settings.body_seconds,
        total_bytes=max(BODIES_AT_ONCE, 2 * limit),
    )
    return JsonReader(bodies)


def _worker(
    settings: WebhooksSettings, store: DeliveryRepository, resolver: Resolver
) -> DeliveryWorker:
    at_once = settings.webhook_deliveries_at_once
    backend = CheckedBackend(settings.address_rules, resolver)
    sender = Sender(
        backend,
        seconds=settings.webhook_timeout_seconds,
        at_once=at_once,
        ca_file=settings.webhook_ca_file,
    )
    return DeliveryWorker(
        store,
        sender,
        settings.retry_policy,
        ConcurrencyLimits(
            at_once,
            each=settings.webhook_deliveries_at_once_each,
            each_workspace=settings.webhook_deliveries_at_once_workspace,
            failing=settings.webhook_deliveries_at_once_failing,
        ),
        lease_seconds=settings.lease_seconds,
        interval_seconds=settings.webhook_interval_seconds,
        stop_seconds=settings.stop_timeout_seconds,
        disable_policy=settings.disable_policy,
    )
