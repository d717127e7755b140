"""The one place that builds the publisher."""

from fastapi import FastAPI

from services.publisher.api_keys import ApiKeys
from services.publisher.config import PublisherSettings
from services.publisher.destinations import Destinations
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
from shared.access.authentication import Authenticator
from shared.access.cache import BoardDirectory
from shared.access.destination_repository import DestinationRepository
from shared.access.key_repository import KeyRepository
from shared.access.repository import AccessRepository
from shared.access.usage import KeyUsage
from shared.contract.import_records import is_for_publisher
from shared.contract.topics import TopicName, TopicNames
from shared.http.app import add_process_endpoints, create_api
from shared.http.health import Health
from shared.http.pagination.pages import Lists
from shared.kafka.consumer import BatchConsumer
from shared.kafka.producer import RecordProducer
from shared.kafka.subscription import Acknowledgement, RecordFilter, Subscription
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
    store = PinStore(database)
    producer = RecordProducer(settings, client_id=f"pinflow-publisher-{settings.replica}")
    handler = RowsHandler(Settler(store, BoardDirectory(access)), producer, names)
    history = OutcomeHistory(store, settings, names)
    rows = Subscription(
        name="publisher",
        topics=(TopicName.IMPORTS,),
        isolation="read_uncommitted",
        offset_reset="none",
        acknowledgement=Acknowledgement.POSITION_WITH_WORK,
        max_records=settings.consumer_max_records,
        record_filter=RecordFilter(names[TopicName.IMPORTS], is_for_publisher),
    )
    consumers = [
        BatchConsumer(
            rows,
            settings,
            handler,
            producer,
            member=member,
            positions=store.positions,
            preparation=history,
        )
        for member in range(settings.row_consumers)
    ]
    http_connections = settings.database_pool_size - settings.background_connections
    http_database = Database.of(
        settings, application="pinflow-publisher-http", connections=http_connections
    )
    http_access, queries = AccessRepository(http_database), PinQueries(http_database)
    usage = KeyUsage(http_access)
    scheduler = Scheduler(store, access, settings.sweep_limit)
    outbox = OutboxSweeper(store, producer, names[TopicName.PIN_EVENTS], settings.sweep_limit)
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

    commands = _commands(
        PinCommands(http_database, history.confirm), http_access, queries, settings
    )
    keys = ApiKeys(KeyRepository(http_database), http_access, settings.max_api_keys)
    destinations = Destinations(
        DestinationRepository(http_database), settings.max_boards_per_account
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
    lists = PinLists(Lists(http_database, settings, at_once=max(1, http_connections - 1)))
    app.state.ports = Ports(settings, queries, lists, http_access, commands, keys, destinations)
    app.include_router(router)
    add_process_endpoints(app)
    add_unsupported_endpoints(app, Answering.PUBLISHER)
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
