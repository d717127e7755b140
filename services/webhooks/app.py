"""Builds the webhooks service."""

from datetime import timedelta

from fastapi import FastAPI

from services.webhooks.config import BACKGROUND_CONNECTIONS, WebhooksSettings
from services.webhooks.consumer import EventHandler
from services.webhooks.delivery.delay_gauge import MEASURE_INTERVAL_SECONDS, DeliveryDelayGauge
from services.webhooks.delivery.in_flight import InFlightCounts
from services.webhooks.delivery.repository import DeliveryRepository
from services.webhooks.delivery.retention import DELETE_INTERVAL_SECONDS, DeliveryRetention
from services.webhooks.delivery.sender import WebhookSender
from services.webhooks.delivery.worker import DeliveryWorker
from services.webhooks.dependencies import WebhooksDependencies
from services.webhooks.openapi import describe_webhooks
from services.webhooks.subscriptions.endpoints import router
from services.webhooks.subscriptions.repository import WebhookRepository
from services.webhooks.subscriptions.service import WebhookService
from shared.contract.import_limits import MEBIBYTE
from shared.contract.topics import TopicName
from shared.http.bodies import BodyReader
from shared.http.checked_connections import CheckedBackend, Resolver
from shared.http.json_reader import JsonReader
from shared.kafka.consumer import BatchConsumer
from shared.kafka.subscription import Acknowledgement, FetchSettings, Subscription
from shared.runtime.periodic import PeriodicTask
from shared.runtime.service import Service

MIN_FETCH_BYTES = 4 * MEBIBYTE
"""Kafka answers a fetch when it has this much (about 7000 events), or after event_wait_ms."""
MAX_PARTITION_BYTES = 8 * MEBIBYTE
"""Maximum bytes of one partition in a fetch.

A single importing workspace causes 16 MB, or 28 000 events, a second.
"""

UNUSED_CHECK_SECONDS = 1.0
"""Interval of the check whether a webhook is enabled. Without one, the consumer is paused.

The first event after a pause waits up to this long.
"""
BODY_BUDGET_BYTES = 16 * MEBIBYTE
"""Memory for all bodies that are read at once, unless the body limit needs more.

BodyReader uses half of it for bodies up to 256 kB: 512 bodies of the default limit.
"""


def create_app(settings: WebhooksSettings) -> FastAPI:
    """Builds all parts of the service. The application's lifespan starts them."""
    service = Service("webhooks", settings, background_connections=BACKGROUND_CONNECTIONS)
    store = DeliveryRepository(service.database)
    # Twice as many threads as attempts, because a lookup may outlast its attempt
    resolver = Resolver(2 * settings.webhook_deliveries_at_once)
    worker = _build_worker(settings, store, resolver)
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
    retention = DeliveryRetention(store, timedelta(days=settings.webhook_retention_days))

    async def close_resolver() -> None:
        resolver.close()

    app = service.create_app(
        summary="Sends events about pins and imports to webhooks.",
        dependencies=WebhooksDependencies(
            service=WebhookService(
                WebhookRepository(service.http_database),
                settings.address_rules,
                worker,
                settings.webhooks_per_workspace,
            ),
            reader=_build_reader(settings),
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
                worker.run_round,
                interval_seconds=settings.webhook_interval_seconds,
            ),
            PeriodicTask(
                "delivery retention",
                retention.delete_old_deliveries,
                interval_seconds=DELETE_INTERVAL_SECONDS,
            ),
            PeriodicTask(
                "delivery delay gauge",
                DeliveryDelayGauge(store).measure,
                interval_seconds=MEASURE_INTERVAL_SECONDS,
            ),
        ],
        closing=[close_resolver],
    )
    describe_webhooks(app)
    return app


def _build_reader(settings: WebhooksSettings) -> JsonReader:
    limit = settings.webhook_body_limit
    bodies = BodyReader(
        limit_bytes=limit,
        timeout_seconds=settings.body_seconds,
        total_bytes=max(BODY_BUDGET_BYTES, 2 * limit),
    )
    return JsonReader(bodies)


def _build_worker(
    settings: WebhooksSettings, store: DeliveryRepository, resolver: Resolver
) -> DeliveryWorker:
    max_requests = settings.webhook_deliveries_at_once
    backend = CheckedBackend(settings.address_rules, resolver)
    sender = WebhookSender(
        backend,
        timeout_seconds=settings.webhook_timeout_seconds,
        max_connections=max_requests,
        ca_file=settings.webhook_ca_file,
    )
    return DeliveryWorker(
        store,
        sender,
        settings.retry_policy,
        InFlightCounts(
            max_requests,
            per_webhook=settings.webhook_deliveries_at_once_each,
            per_workspace=settings.webhook_deliveries_at_once_workspace,
            failing_limit=settings.webhook_deliveries_at_once_failing,
        ),
        claim_seconds=settings.claim_seconds,
        interval_seconds=settings.webhook_interval_seconds,
        stop_seconds=settings.stop_timeout_seconds,
        disable_policy=settings.disable_policy,
    )
