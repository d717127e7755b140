"""Builds the ingest service."""

from datetime import timedelta

from fastapi import FastAPI

from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.monitor import BacklogMonitor
from services.ingest.admission.queue import ImportQueue
from services.ingest.admission.rate_meter import RateMeter
from services.ingest.checks import ImportChecker
from services.ingest.config import IngestSettings
from services.ingest.consumers import ImportRequestHandler
from services.ingest.dependencies import IngestDependencies
from services.ingest.endpoints import internal_router, rate_meter_router, router
from services.ingest.import_log import KafkaImportLog
from services.ingest.import_request_service import ImportRequestService
from services.ingest.keyed_imports import (
    CLEAN_INTERVAL_SECONDS,
    KeyedImportService,
    RequestCleaner,
)
from services.ingest.reader import ImportReader
from services.ingest.repository import PostgresRequestLedger
from services.ingest.service import ImportService
from shared.access.cache import WorkspaceCache
from shared.contract.import_limits import MAX_REQUEST_BYTES
from shared.contract.topics import TopicName
from shared.http.bodies import BodyReader
from shared.http.client import create_http_pool
from shared.http.internal import InternalClient
from shared.http.json_reader import JsonReader
from shared.kafka.consumer import BatchConsumer
from shared.kafka.subscription import Acknowledgement, Subscription
from shared.runtime.periodic import PeriodicTask
from shared.runtime.service import Service


def create_app(settings: IngestSettings) -> FastAPI:
    """Builds the application. Its lifespan starts the components."""
    service = Service("ingest", settings)
    admission = AdmissionControl(settings)
    monitor = BacklogMonitor(settings, admission)
    import_log = KafkaImportLog(settings)
    reader = ImportReader(service.access)
    ledger = PostgresRequestLedger(service.database)
    imports = ImportService(
        import_log,
        admission,
        ImportQueue.from_settings(settings),
        reader,
        keep_uploads=settings.upload_retention_days > 0,
    )
    http = create_http_pool()
    publisher = InternalClient("publisher", http, settings.publisher_url, settings.internal_token)
    cleaner = RequestCleaner(ledger, timedelta(days=settings.idempotency_key_days))
    handler = ImportRequestHandler(
        ImportRequestService(
            ledger,
            WorkspaceCache(service.access),
            import_log,
            admission,
            reader,
            settings,
        )
    )
    requests = BatchConsumer(
        Subscription(
            name="ingest",
            topics=(TopicName.IMPORT_REQUESTS,),
            isolation="read_committed",  # upstream systems may produce in transactions
            offset_reset="earliest",
            acknowledgement=Acknowledgement.OFFSET_AFTER_WORK,
            max_records=settings.import_request_batch,
        ),
        settings,
        handler,
        service.producer,
    )
    return service.create_app(
        summary="Accepts imports: completely, durably and once.",
        dependencies=IngestDependencies(
            imports=imports,
            keyed_imports=KeyedImportService(imports, ledger),
            checker=ImportChecker(imports, publisher),
            rate_meter=RateMeter(admission, service.access, publisher),
            bodies=BodyReader(
                limit_bytes=settings.import_body_limit,
                timeout_seconds=settings.body_seconds,
                total_bytes=settings.import_bodies_at_once,
            ),
            retries=JsonReader(
                BodyReader(
                    limit_bytes=MAX_REQUEST_BYTES,
                    timeout_seconds=settings.body_seconds,
                    total_bytes=2 * MAX_REQUEST_BYTES,
                )
            ),
        ),
        routers=[router, rate_meter_router, internal_router],
        components=[monitor, import_log],
        consumers=[requests],
        tasks=[
            PeriodicTask(
                "request cleaner",
                cleaner.delete_old_requests,
                interval_seconds=CLEAN_INTERVAL_SECONDS,
            )
        ],
        closing=[http.aclose],
    )
