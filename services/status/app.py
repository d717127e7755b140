"""Builds the status service."""

from datetime import timedelta

from fastapi import FastAPI

from services.status import endpoints
from services.status.commands import endpoints as commands
from services.status.commands.service import ImportCommandService
from services.status.config import BACKGROUND_CONNECTIONS, FOLD_BURST, StatusSettings
from services.status.consumers import FoldHandler
from services.status.dependencies import StatusDependencies
from services.status.fold_service import FoldService
from services.status.ingest_client import IngestClient
from services.status.job_events import JobAnnouncer
from services.status.lists import ImportLists
from services.status.repository import JobRepository
from services.status.results import endpoints as results
from services.status.retention import CLEAN_INTERVAL_SECONDS, UploadCleaner
from services.status.service import JobQueries
from services.status.system import add_system_endpoints, register_readiness_checks
from services.status.undos import UndoReader
from services.status.unsupported import add_unsupported_endpoints
from services.status.uploads import endpoints as uploaded
from services.status.uploads.service import Uploads
from services.status.uploads.slots import UploadSlots
from shared.contract.import_records import is_for_status, is_whole_import
from shared.contract.topics import TopicName
from shared.http.bodies import BodyReader
from shared.http.client import create_http_pool
from shared.http.internal import InternalClient
from shared.http.json_reader import JsonReader
from shared.kafka.consumer import BatchConsumer
from shared.kafka.subscription import Acknowledgement, RecordFilter, Subscription
from shared.runtime.limits.token_buckets import token_bucket
from shared.runtime.periodic import PeriodicTask
from shared.runtime.service import Service

RETRY_BODIES_AT_ONCE = 8
"""Maximum number of retries with the largest body that are read at once."""


def create_app(settings: StatusSettings) -> FastAPI:
    """Builds the application. Nothing starts before the application's lifespan."""
    service = Service("status", settings, background_connections=BACKGROUND_CONNECTIONS)
    retention_days = settings.upload_retention_days
    background_jobs = JobRepository(service.database)
    job_events = service.topics[TopicName.JOB_EVENTS]
    announcer = JobAnnouncer(background_jobs, service.producer, job_events, settings.announce_limit)
    announcing = PeriodicTask(
        "announcer", announcer.announce, interval_seconds=settings.announce_interval_seconds
    )
    cleaner = UploadCleaner(background_jobs, timedelta(days=retention_days))
    http = create_http_pool()

    def build_client(name: str, urls: str) -> InternalClient:
        return InternalClient(name, http, urls, settings.internal_token)

    publisher = build_client("publisher", settings.publisher_url)
    # Uses the connections for requests: the others are reserved for the consumer and the tasks
    requested_jobs = JobRepository(service.http_database)
    jobs = JobQueries(requested_jobs, IngestClient(http, settings.ingest_url))
    uploads, slots = Uploads(requested_jobs, retention_days), UploadSlots()
    register_readiness_checks(service.health, settings, service.database, http)
    app = service.create_app(
        summary="Answers with the results of imports, and with the readiness of Pinflow.",
        dependencies=StatusDependencies(
            settings=settings,
            jobs=jobs,
            lists=ImportLists(service.paginator(settings)),
            undos=UndoReader(publisher),
            uploads=uploads,
            upload_slots=slots,
            commands=ImportCommandService(
                jobs,
                uploads,
                slots,
                requested_jobs,
                publisher=publisher,
                ingest=build_client("ingest", settings.ingest_url),
            ),
            retry_reader=_build_retry_reader(settings),
        ),
        routers=[endpoints.router, results.router, uploaded.router, commands.router],
        consumers=[_build_consumer(service, settings, background_jobs, announcing)],
        tasks=[
            announcing,
            PeriodicTask(
                "upload cleaner",
                cleaner.delete_old_uploads,
                interval_seconds=CLEAN_INTERVAL_SECONDS,
            ),
        ],
        closing=[http.aclose],
        add_endpoints=add_system_endpoints,
    )
    add_unsupported_endpoints(app)
    return app


def _build_consumer(
    service: Service, settings: StatusSettings, jobs: JobRepository, announcing: PeriodicTask
) -> BatchConsumer:
    """Builds the consumer that folds imports and outcomes. It wakes `announcing` if a job ends."""
    subscription = Subscription(
        name="status",
        topics=(TopicName.IMPORTS, TopicName.OUTCOMES),
        isolation="read_uncommitted",
        offset_reset="none",
        acknowledgement=Acknowledgement.POSITION_WITH_WORK,
        max_records=settings.fold_records,
        record_filter=RecordFilter(
            service.topics[TopicName.IMPORTS], is_for_status, is_whole_import
        ),
    )
    return BatchConsumer(
        subscription,
        settings,
        FoldHandler(
            FoldService(jobs, announcing),
            service.topics,
            keep_uploads=settings.upload_retention_days > 0,
        ),
        service.producer,
        rate_limit=token_bucket(per_second=settings.folds_per_second, burst=FOLD_BURST),
        positions=jobs.positions,
    )


def _build_retry_reader(settings: StatusSettings) -> JsonReader:
    limit = settings.retry_body_limit
    return JsonReader(
        BodyReader(
            limit_bytes=limit,
            timeout_seconds=settings.body_seconds,
            total_bytes=RETRY_BODIES_AT_ONCE * limit,
        )
    )
