"""The one place that builds ingest."""

from fastapi import FastAPI

from services.ingest.acceptance import Acceptance
from services.ingest.admission.limits import Admission
from services.ingest.admission.monitor import BacklogWatch
from services.ingest.admission.rates import Rates
from services.ingest.admission.turns import Turns
from services.ingest.config import IngestSettings
from services.ingest.consumers import ImportRequestsHandler
from services.ingest.endpoints import internal_router, meter_router, router
from services.ingest.repository import Ledger
from services.ingest.service import Imports
from shared.access.authentication import Authenticator
from shared.access.cache import WorkspaceDirectory
from shared.access.repository import AccessRepository
from shared.access.usage import KeyUsage
from shared.contract.topics import TopicName
from shared.http.app import add_process_endpoints, create_api
from shared.http.bodies import Bodies
from shared.http.health import Health
from shared.kafka.consumer import BatchConsumer
from shared.kafka.producer import RecordProducer
from shared.kafka.subscription import Acknowledgement, Subscription
from shared.postgres.database import Database
from shared.runtime.service import Machinery, lifespan_of


def create_app(settings: IngestSettings) -> FastAPI:
    """Makes everything and starts nothing: that is the lifespan's."""
    database = Database.of(settings, application="pinflow-ingest")
    access = AccessRepository(database)
    admission = Admission(settings)
    watch = BacklogWatch(settings, admission)
    acceptance = Acceptance(settings)
    producer = RecordProducer(settings, client_id=f"pinflow-ingest-{settings.replica}")
    handler = ImportRequestsHandler(
        Ledger(database), WorkspaceDirectory(access), acceptance, admission, settings
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
        producer,
    )
    usage = KeyUsage(access)
    machinery = Machinery(
        "ingest",
        settings,
        parts=[producer, watch, acceptance],
        consumers=[requests],
        sweepers=[usage.sweeper()],
    )

    health = Health()
    machinery.watch_over(health)
    app = create_api(
        "ingest",
        summary="Accepts imports: whole, durably, once.",
        lifespan=lifespan_of(machinery, database.dispose),
        health=health,
        concurrency=settings.http_concurrency,
    )
    app.state.machinery = machinery
    app.state.authenticator = Authenticator(access, settings, used=usage.note)
    app.state.imports = Imports(
        acceptance, admission, Turns.of(settings), keep_uploads=settings.upload_retention_days > 0
    )
    app.state.rates = Rates(admission, access)
    app.state.bodies = Bodies(
        limit_bytes=settings.import_body_limit,
        seconds=settings.body_seconds,
        at_once_bytes=settings.import_bodies_at_once,
    )
    app.include_router(router)
    app.include_router(meter_router)
    app.include_router(internal_router)
    add_process_endpoints(app)
    return app
