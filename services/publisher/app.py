"""Builds the publisher."""

from fastapi import FastAPI

from services.publisher.backlog import dependencies as backlog_dependencies
from services.publisher.backlog import endpoints as backlog
from services.publisher.backlog.dependencies import BacklogDependencies
from services.publisher.backlog.repository import BacklogRepository
from services.publisher.backlog.service import BacklogService
from services.publisher.config import PublisherSettings
from services.publisher.delivery.budgets.repository import Budgets
from services.publisher.grants import dependencies as grant_dependencies
from services.publisher.grants import endpoints as grants
from services.publisher.grants.dependencies import GrantDependencies
from services.publisher.grants.service import GrantService
from services.publisher.imports import endpoints as imports
from services.publisher.imports.check import RowChecker
from services.publisher.imports.commands import ImportCommands
from services.publisher.imports.dependencies import (
    STATE_ATTRIBUTE,
    ImportDependencies,
    build_reader,
)
from services.publisher.imports.repository import ImportRepository
from services.publisher.imports.retention import CLEAN_INTERVAL_SECONDS, CommandCleaner
from services.publisher.lost_pins import RequireCurrentDatabase
from services.publisher.outbox import OutboxRelay
from services.publisher.outbox_repository import OutboxRepository
from services.publisher.pins import endpoints as pins
from services.publisher.pins import schedule_endpoints as schedules
from services.publisher.pins.bulk_publish import BulkPublishService
from services.publisher.pins.deferral_reader import DeferralReader
from services.publisher.pins.dependencies import (
    PublisherDependencies,
    build_batch_reader,
    build_pin_reader,
)
from services.publisher.pins.dry_run.service import DryRunService
from services.publisher.pins.lists.service import PinListService
from services.publisher.pins.removals import RemovalReader
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.schedules import ScheduleService
from services.publisher.pins.service import PinService
from services.publisher.rows.consumer import RowsHandler
from services.publisher.rows.outcome_history import OutcomeHistory
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from services.publisher.scheduler import Scheduler
from services.publisher.scheduler_repository import DuePinRepository
from shared.access.cache import BoardCache
from shared.access.repository import AccessRepository
from shared.contract.import_records import is_for_publisher
from shared.contract.topics import TopicName
from shared.http.write_limit import WriteLimit
from shared.kafka.consumer import BatchConsumer
from shared.kafka.subscription import Acknowledgement, RecordFilter, Subscription
from shared.runtime.periodic import PeriodicTask
from shared.runtime.service import Service


def create_app(settings: PublisherSettings) -> FastAPI:
    """Builds the application. Its lifespan starts the consumers and tasks."""
    service = Service(
        "publisher",
        settings,
        background_connections=settings.background_connections,
        compressed_topics=settings.compressed_topics,
    )
    rows = RowRepository(service.database)
    history = OutcomeHistory(rows, settings, service.topics)
    # Uses the connections for requests: the others are reserved for consumers and periodic tasks
    imports_repository = ImportRepository(service.http_database, history.require_current_database)
    writes = WriteLimit(
        settings.max_direct_pins,
        activity="requests that publish, change or check pins and schedules are being processed",
    )
    dependencies = _build_dependencies(service, settings, history.require_current_database, writes)
    app = service.create_app(
        summary="Publishes each row once, and serves the API of pins and schedules.",
        dependencies=dependencies,
        routers=[
            pins.router,
            schedules.router,
            pins.job_router,
            backlog.router,
            backlog.internal_router,
            imports.router,
            grants.router,
        ],
        consumers=_build_consumers(service, settings, rows, history),
        tasks=_build_tasks(service, settings, imports_repository),
        closing=[history.close],
    )
    import_dependencies = ImportDependencies(
        commands=ImportCommands(imports_repository, service.topics[TopicName.IMPORTS]),
        checker=RowChecker(RowRepository(service.http_database), BoardCache(service.access)),
        reader=build_reader(settings.body_seconds, writes),
    )
    setattr(app.state, STATE_ATTRIBUTE, import_dependencies)
    backlogs = BacklogDependencies(_build_backlog(service, settings), dependencies.reader)
    setattr(app.state, backlog_dependencies.STATE_ATTRIBUTE, backlogs)
    granting = GrantDependencies(
        GrantService(service.http_database, Budgets(settings.budget_limits)),
        grant_dependencies.build_reader(settings.body_seconds),
    )
    setattr(app.state, grant_dependencies.STATE_ATTRIBUTE, granting)
    return app


def _build_consumers(
    service: Service,
    settings: PublisherSettings,
    repository: RowRepository,
    history: OutcomeHistory,
) -> list[BatchConsumer]:
    """Builds the members of the consumer group that settle rows."""
    row_service = RowService(repository, BoardCache(AccessRepository(service.database)))
    handler = RowsHandler(row_service, service.producer, service.topics)
    subscription = Subscription(
        name="publisher",
        topics=(TopicName.IMPORTS,),
        isolation="read_uncommitted",
        offset_reset="none",
        acknowledgement=Acknowledgement.POSITION_WITH_WORK,
        max_records=settings.consumer_max_records,
        record_filter=RecordFilter(service.topics[TopicName.IMPORTS], is_for_publisher),
    )
    return [
        BatchConsumer(
            subscription,
            settings,
            handler,
            service.producer,
            member=member,
            positions=repository.positions,
            preparation=history,
        )
        for member in range(settings.row_consumers)
    ]


def _build_tasks(
    service: Service, settings: PublisherSettings, imports_repository: ImportRepository
) -> list[PeriodicTask]:
    scheduler = Scheduler(
        DuePinRepository(service.database), AccessRepository(service.database), settings.sweep_limit
    )
    pin_events = service.topics[TopicName.PIN_EVENTS]
    outbox = OutboxRelay(
        OutboxRepository(service.database), service.producer, pin_events, settings.sweep_limit
    )
    cleaner = CommandCleaner(imports_repository)
    interval = settings.schedule_interval_seconds
    return [
        PeriodicTask("scheduler", scheduler.publish_due, interval_seconds=interval),
        PeriodicTask("outbox", outbox.produce_waiting, interval_seconds=interval),
        PeriodicTask(
            "commands", cleaner.delete_old_commands, interval_seconds=CLEAN_INTERVAL_SECONDS
        ),
    ]


def _build_dependencies(
    service: Service,
    settings: PublisherSettings,
    require_current_database: RequireCurrentDatabase,
    writes: WriteLimit,
) -> PublisherDependencies:
    repository = PinRepository(service.http_database, require_current_database)
    boards = BoardCache(service.access)
    deferrals = DeferralReader(service.http_database, settings.pinterest_mode)
    return PublisherDependencies(
        settings=settings,
        pins=PinService(
            repository,
            boards,
            service.access,
            RemovalReader(service.http_database, is_on=settings.is_pinterest_on),
        ),
        schedules=ScheduleService(repository, boards, service.access),
        bulk_publish=BulkPublishService(repository, boards, settings.max_batch_pins),
        dry_run=DryRunService(repository, service.access),
        lists=PinListService(service.paginator(settings), deferrals),
        deferrals=deferrals,
        reader=build_pin_reader(settings, writes),
        batch_reader=build_batch_reader(settings, writes),
        writes=writes,
    )


def _build_backlog(service: Service, settings: PublisherSettings) -> BacklogService:
    return BacklogService(
        BacklogRepository(service.http_database, settings.pinterest_mode),
        settings.budget_limits,
        spacing_seconds=settings.delivery_spacing_seconds,
        confirm_seconds=settings.delivery_confirm_seconds,
        is_on=settings.is_pinterest_on,
    )
