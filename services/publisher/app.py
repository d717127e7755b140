"""The one place that builds the publisher."""

from fastapi import FastAPI

from services.publisher.config import PublisherSettings
from services.publisher.outbox import OutboxRelay
from services.publisher.outbox_repository import OutboxRepository
from services.publisher.pins import endpoints as pins
from services.publisher.pins import schedule_endpoints as schedules
from services.publisher.pins.admission import Admission
from services.publisher.pins.batch import BatchService
from services.publisher.pins.dependencies import (
    CONCURRENT_BATCH_BYTES,
    CONCURRENT_BODY_BYTES,
    JsonReader,
    PinDependencies,
)
from services.publisher.pins.dry_run.service import DryRunService
from services.publisher.pins.lists.service import PinLists
from services.publisher.pins.repository import Confirm, PinRepository
from services.publisher.pins.schedules import ScheduleService
from services.publisher.pins.service import PinService
from services.publisher.rows.consumer import RowsHandler
from services.publisher.rows.history import OutcomeHistory
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from services.publisher.scheduler import Scheduler
from services.publisher.scheduler_repository import DuePins
from shared.access.authentication import Authenticator
from shared.access.cache import BoardDirectory
from shared.access.repository import AccessRepository
from shared.access.usage import KeyUsage
from shared.contract.import_records import is_for_publisher
from shared.contract.topics import TopicName, TopicNames
from shared.http.app import NO_ACCESS, add_process_endpoints, create_api
from shared.http.health import Health
from shared.http.pagination.pages import Lists
from shared.kafka.consumer import BatchConsumer
from shared.kafka.producer import RecordProducer
from shared.kafka.skipping import RecordFilter
from shared.postgres.database import Database
from shared.runtime.periodic import Sweeper
from shared.runtime.service import Machinery, lifespan_of
from shared.unsupported import Answering, add_unsupported_endpoints


def create_app(settings: PublisherSettings) -> FastAPI:
    """Makes everything and starts nothing: that is the lifespan's."""
    names = TopicNames(settings.topic_prefix)
    # Apart from HTTP's: requests that wait for a connection, or hold one for long, must not keep
    # rows from being settled
    database = Database.of(
        settings, application="pinflow-publisher", connections=settings.background_connections
    )
    access = AccessRepository(database)
    store = RowRepository(database)
    producer = RecordProducer(settings, client_id=f"pinflow-publisher-{settings.replica}")
    handler = RowsHandler(RowService(store, BoardDirectory(access)), producer, names)
    history = OutcomeHistory(store, settings, names)
    rows = RecordFilter(names[TopicName.IMPORTS], is_for_publisher)
    consumers = [
        BatchConsumer(
            "publisher",
            settings,
            [TopicName.IMPORTS],
            handler,
            producer,
            member=member,
            record_filter=rows,
            positions=store.positions,
            preparation=history,
        )
        for member in range(settings.row_consumers)
    ]
    http_connections = settings.database_pool_size - settings.background_connections
    http_database = Database.of(
        settings, application="pinflow-publisher-http", connections=http_connections
    )
    http_access = AccessRepository(http_database)
    usage = KeyUsage(http_access)
    scheduler = Scheduler(DuePins(database), access, settings.sweep_limit)
    outbox = OutboxRelay(
        OutboxRepository(database), producer, names[TopicName.PIN_EVENTS], settings.sweep_limit
    )
    machinery = Machinery(
        "publisher",
        settings,
        parts=[producer],
        consumers=consumers,
        sweepers=[
            Sweeper(
                "scheduler", scheduler.sweep, interval_seconds=settings.schedule_interval_seconds
            ),
            Sweeper("outbox", outbox.sweep, interval_seconds=settings.schedule_interval_seconds),
            usage.sweeper(),
        ],
    )

    health = Health()
    machinery.watch_over(health)
    app = create_api(
        "publisher",
        summary="Publishes rows once, and answers for pins and schedules.",
        lifespan=lifespan_of(machinery, history.close, database.dispose, http_database.dispose),
        health=health,
        concurrency=settings.http_concurrency,
    )
    app.state.machinery = machinery
    app.state.history = history
    app.state.authenticator = Authenticator(http_access, settings, used=usage.note)
    app.state.dependencies = _pin_dependencies(
        settings,
        http_database,
        http_access,
        history.confirm,
        concurrent_lists=max(1, http_connections - 1),
    )
    for router in (pins.router, schedules.router, pins.job_router):
        app.include_router(router, responses=NO_ACCESS)
    add_process_endpoints(app)
    add_unsupported_endpoints(app, Answering.PUBLISHER)
    return app


def _pin_dependencies(
    settings: PublisherSettings,
    database: Database,
    access: AccessRepository,
    confirm: Confirm,
    *,
    concurrent_lists: int,
) -> PinDependencies:
    repository = PinRepository(database, confirm)
    boards = BoardDirectory(access)
    admission = Admission(settings.max_direct_pins)
    return PinDependencies(
        base_url=settings.base_url,
        max_bulk_ids=settings.max_bulk_ids,
        pins=PinService(repository, boards, access),
        schedules=ScheduleService(repository, boards, access),
        batches=BatchService(repository, boards, settings.max_batch_pins),
        dry_run=DryRunService(repository, access),
        lists=PinLists(Lists(database, settings, at_once=concurrent_lists)),
        admission=admission,
        reader=JsonReader.create(
            settings,
            admission,
            limit=settings.pin_body_limit,
            concurrent_bytes=CONCURRENT_BODY_BYTES,
        ),
        batch_reader=JsonReader.create(
            settings,
            admission,
            limit=settings.batch_body_limit,
            concurrent_bytes=CONCURRENT_BATCH_BYTES,
        ),
    )
