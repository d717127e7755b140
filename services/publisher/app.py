"""The one place that builds the publisher."""

from fastapi import FastAPI

from services.publisher.config import PublisherSettings
from services.publisher.pins.batch import Batches
from services.publisher.pins.changes import Changes
from services.publisher.pins.commands import PinCommands
from services.publisher.pins.dependencies import Commands, Ports
from services.publisher.pins.dry_run import Validation
from services.publisher.pins.lists import PinLists
from services.publisher.pins.repository import PinQueries
from services.publisher.pins.schedules import Schedules
from services.publisher.pins.service import Pins
from services.publisher.routers import router
from services.publisher.rows.consumer import RowsHandler
from services.publisher.rows.history import OutcomeHistory
from services.publisher.rows.repository import PinStore
from services.publisher.rows.service import Settler
from services.publisher.scheduler import OutboxSweeper, Scheduler
from shared.access.cache import BoardDirectory
from shared.access.repository import AccessRepository
from shared.contract.import_records import is_for_publisher
from shared.contract.topics import TopicName
from shared.kafka.consumer import BatchConsumer
from shared.kafka.skipping import RecordFilter
from shared.runtime.periodic import Sweeper
from shared.runtime.service import Service


def create_app(settings: PublisherSettings) -> FastAPI:
    """Makes everything and starts nothing: the application's lifespan does."""
    background = settings.background_connections
    service = Service("publisher", settings, background_connections=background)
    background_access = AccessRepository(service.database)
    store = PinStore(service.database)
    history = OutcomeHistory(store, settings, service.topics)
    settler = Settler(store, BoardDirectory(background_access))
    handler = RowsHandler(settler, service.producer, service.topics)
    rows = RecordFilter(service.topics[TopicName.IMPORTS], is_for_publisher)
    consumers = [
        BatchConsumer(
            "publisher",
            settings,
            [TopicName.IMPORTS],
            handler,
            service.producer,
            member=member,
            record_filter=rows,
            positions=store.positions,
            preparation=history,
        )
        for member in range(settings.row_consumers)
    ]
    scheduler = Scheduler(store, background_access, settings.sweep_limit)
    pin_events = service.topics[TopicName.PIN_EVENTS]
    outbox = OutboxSweeper(store, service.producer, pin_events, settings.sweep_limit)
    interval = settings.schedule_interval_seconds

    queries = PinQueries(service.http_database)
    commands = _commands(
        PinCommands(service.http_database, history.confirm), service.access, queries, settings
    )
    app = service.create_app(
        summary="Publishes rows once, and answers for pins and schedules.",
        dependencies=Ports(
            settings,
            queries,
            PinLists(service.lists(settings)),
            commands,
        ),
        routers=[router],
        consumers=consumers,
        tasks=[
            Sweeper("scheduler", scheduler.sweep, interval_seconds=interval),
            Sweeper("outbox", outbox.sweep, interval_seconds=interval),
        ],
        closing=[history.close],
    )
    app.state.history = history
    return app


def _commands(
    store: PinCommands, access: AccessRepository, queries: PinQueries, settings: PublisherSettings
) -> Commands:
    boards = BoardDirectory(access)
    changes = Changes(store, access)
    return Commands(
        Pins(queries, store, boards, changes),
        Batches(store, boards, settings.max_batch_pins),
        Schedules(queries, store, boards, changes),
        Validation(queries, access),
    )
