"""Builds ingest."""

from fastapi import FastAPI

from services.ingest.acceptance import Acceptance
from services.ingest.admission.limits import Admission
from services.ingest.admission.monitor import BacklogWatch
from services.ingest.admission.queue import ImportQueue
from services.ingest.admission.rates import Rates
from services.ingest.config import IngestSettings
from services.ingest.consumers import ImportRequestsHandler
from services.ingest.dependencies import IngestDependencies
from services.ingest.endpoints import internal_router, meter_router, router
from services.ingest.repository import Ledger
from services.ingest.requested_imports import RequestedImports
from services.ingest.service import Imports
from shared.access.cache import WorkspaceCache
from shared.contract.topics import TopicName
from shared.http.bodies import Bodies
from shared.kafka.consumer import BatchConsumer
from shared.kafka.subscription import Acknowledgement, Subscription
from shared.runtime.service import Service


def create_app(settings: IngestSettings) -> FastAPI:
    """Makes everything and starts nothing: the application's lifespan does."""
    service = Service("ingest", settings)
    admission = Admission(settings)
    watch = BacklogWatch(settings, admission)
    acceptance = Acceptance(settings)
    handler = ImportRequestsHandler(
        RequestedImports(
            Ledger(service.database),
            WorkspaceCache(service.access),
            acceptance,
            admission,
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
    keep_uploads = settings.upload_retention_days > 0
    return service.create_app(
        summary="Accepts imports: whole, durably, once.",
        dependencies=IngestDependencies(
            imports=Imports(
                acceptance, admission, ImportQueue.of(settings), keep_uploads=keep_uploads
            ),
            rates=Rates(admission, service.access),
            bodies=Bodies(
                limit_bytes=settings.import_body_limit,
                seconds=settings.body_seconds,
                at_once_bytes=settings.import_bodies_at_once,
            ),
        ),
        routers=[router, meter_router, internal_router],
        components=[watch, acceptance],
        consumers=[requests],
    )
