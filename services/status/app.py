"""The one place that builds the status service."""

from datetime import timedelta

from fastapi import FastAPI

from services.status.config import BACKGROUND_CONNECTIONS, FOLDS_AT_ONCE, StatusSettings
from services.status.consumers import FoldHandler
from services.status.endpoints import router
from services.status.job_events import Announcer
from services.status.lists import ImportLists
from services.status.repository import JobStore
from services.status.retention import CLEAN_SECONDS, UploadCleaner
from services.status.sent_imports import SentImports
from services.status.service import JobQueries
from services.status.system import add_system_endpoints, http_pool, watch_everything
from shared.access.authentication import Authenticator
from shared.access.repository import AccessRepository
from shared.access.usage import KeyUsage
from shared.contract.import_records import is_for_status, is_whole_import
from shared.contract.topics import TopicName, TopicNames
from shared.http.app import create_api
from shared.http.health import Health
from shared.http.pagination.pages import Lists
from shared.kafka.consumer import BatchConsumer
from shared.kafka.pace import Pace
from shared.kafka.producer import RecordProducer
from shared.kafka.subscription import Acknowledgement, RecordFilter, Subscription
from shared.postgres.database import Database
from shared.runtime.periodic import Sweeper
from shared.runtime.service import Machinery, lifespan_of
from shared.unsupported import Answering, add_unsupported_endpoints


def create_app(settings: StatusSettings) -> FastAPI:
    """Makes everything and starts nothing: that is the lifespan's."""
    names = TopicNames(settings.topic_prefix)
    # Apart from HTTP's: requests that wait for a connection, or hold one for long, must not keep
    # outcomes from being folded
    database = Database.of(
        settings, application="pinflow-status", connections=BACKGROUND_CONNECTIONS
    )
    http_connections = settings.database_pool_size - BACKGROUND_CONNECTIONS
    http_database = Database.of(
        settings, application="pinflow-status-http", connections=http_connections
    )
    store, http_store = JobStore(database), JobStore(http_database)
    producer = RecordProducer(settings, client_id=f"pinflow-status-{settings.replica}")
    announcer = Announcer(store, producer, names[TopicName.JOB_EVENTS], settings.announce_limit)
    sweeper = Sweeper(
        "announcer", announcer.sweep, interval_seconds=settings.announce_interval_seconds
    )
    handler = FoldHandler(store, names, sweeper, keep_uploads=settings.upload_retention_days > 0)
    pace = Pace(settings.folds_per_second, FOLDS_AT_ONCE)
    consumer = BatchConsumer(
        Subscription(
            name="status",
            topics=(TopicName.IMPORTS, TopicName.OUTCOMES),
            isolation="read_uncommitted",
            offset_reset="none",
            acknowledgement=Acknowledgement.POSITION_WITH_WORK,
            max_records=settings.fold_records,
            record_filter=RecordFilter(names[TopicName.IMPORTS], is_for_status, is_whole_import),
        ),
        settings,
        handler,
        producer,
        pace=pace,
        positions=store.positions,
    )
    cleaner = UploadCleaner(store, timedelta(days=settings.upload_retention_days))
    cleaning = Sweeper("uploads' cleaner", cleaner.sweep, interval_seconds=CLEAN_SECONDS)
    access = AccessRepository(http_database)
    usage = KeyUsage(access)
    machinery = Machinery(
        "status",
        settings,
        parts=[producer],
        consumers=[consumer],
        sweepers=[sweeper, cleaning, usage.sweeper()],
    )

    health = Health()
    machinery.watch_over(health)
    http = http_pool()
    watch_everything(health, settings, database, http)
    app = create_api(
        "status",
        summary="Knows what became of every row.",
        lifespan=lifespan_of(machinery, http.aclose, database.dispose, http_database.dispose),
        health=health,
        concurrency=settings.http_concurrency,
    )
    app.state.settings = settings
    app.state.machinery = machinery
    app.state.own_check = machinery.trouble
    app.state.authenticator = Authenticator(access, settings, used=usage.note)
    app.state.lists = ImportLists(
        Lists(http_database, settings, at_once=max(1, http_connections - 1))
    )
    app.state.queries = JobQueries(http_store, SentImports(http, settings.ingest_url))
    app.include_router(router)
    add_system_endpoints(app)
    add_unsupported_endpoints(app, Answering.STATUS)
    return app
