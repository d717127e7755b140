"""Builds the delivery process: it creates the queued pins of connected accounts on Pinterest."""

from fastapi import FastAPI

from services.publisher.delivery.accounts.leases import PINS, LeaseRepository
from services.publisher.delivery.accounts.outdated import PAUSE_CHECK_SECONDS, OutdatedPauses
from services.publisher.delivery.attempts.account_failures import AccountFailures
from services.publisher.delivery.attempts.call_failures import CallFailures
from services.publisher.delivery.attempts.repository import SettlementRepository
from services.publisher.delivery.backlog_gauges import MEASURE_INTERVAL_SECONDS, BacklogGauges
from services.publisher.delivery.budgets.repository import BudgetGate, Budgets
from services.publisher.delivery.config import DeliverySettings
from services.publisher.delivery.confirming.confirmer import Confirmer
from services.publisher.delivery.confirming.repository import (
    UNSETTLED_ATTEMPTS,
    ConfirmingRepository,
)
from services.publisher.delivery.creating.board_lookup import BoardLookup
from services.publisher.delivery.creating.creator import PinCreator
from services.publisher.delivery.creating.repository import CreationRepository
from services.publisher.delivery.log.counted import CountedDeliveryLog
from services.publisher.delivery.log.topic import CHECK_INTERVAL_SECONDS, TopicDeliveryLog
from services.publisher.delivery.media.parts import MediaParts
from services.publisher.delivery.media.repository import VIDEOS, VideoRepository
from services.publisher.delivery.ports import DeliveryLog, ReportingTokenSource, TurnPart
from services.publisher.delivery.removing.remover import Remover
from services.publisher.delivery.removing.repository import REMOVALS, RemovingRepository
from services.publisher.delivery.retention import DELETE_INTERVAL_SECONDS, DeliveryCleaner
from services.publisher.delivery.tokens.client import AccessTokens
from services.publisher.delivery.turns import Turn
from services.publisher.delivery.worker import AccountWorker
from shared.http.client import create_http_pool
from shared.http.internal import InternalClient
from shared.pinterest.client import PinterestClient
from shared.postgres.database import Database
from shared.runtime.periodic import PeriodicTask
from shared.runtime.service import Service

SUMMARY = "Creates the pins of connected accounts on Pinterest."


class DeliveryParts:
    """The worker with the parts of its turns, and the uploads. They share Pinterest's client."""

    def __init__(
        self,
        settings: DeliverySettings,
        database: Database,
        delivery_log: DeliveryLog,
        tokens: ReportingTokenSource,
    ) -> None:
        mode = settings.pinterest_mode
        self._client = client = PinterestClient(settings)
        budgets = Budgets(settings.budget_limits)
        gate = BudgetGate(database, budgets, mode)
        settlements = SettlementRepository(database, budgets, mode)
        account_failures = AccountFailures(settlements)
        call_failures = CallFailures(settlements)
        self.media = MediaParts(
            settings, database, client, tokens, gate, call_failures, account_failures
        )
        confirming = ConfirmingRepository(database, mode, delivery_log.require_open)
        removing = RemovingRepository(database, mode, delivery_log.require_open)
        creations = CreationRepository(
            database,
            delivery_log,
            budgets,
            mode,
            lease_seconds=settings.lease_seconds,
            timeout_seconds=settings.pinterest_timeout_seconds,
            marks_links=settings.pinterest_link_mark,
        )
        confirmer = Confirmer(
            confirming,
            client,
            tokens,
            gate,
            delivery_log,
            confirm_seconds=settings.delivery_confirm_seconds,
            max_pages=settings.delivery_confirm_pages,
        )
        creator = PinCreator(
            creations,
            settlements,
            account_failures,
            client,
            tokens,
            self.media.source,
            BoardLookup(client),
            gate,
            delivery_log,
            max_fetch_tries=settings.delivery_fetch_tries,
        )
        turn_parts: list[tuple[str, TurnPart]] = [
            (UNSETTLED_ATTEMPTS.name, confirmer),
            (REMOVALS.name, Remover(removing, client, tokens, gate, call_failures)),
            (VIDEOS.name, self.media.video_calls),
            (PINS, creator),
        ]
        leases = LeaseRepository(
            database,
            budgets,
            mode,
            (UNSETTLED_ATTEMPTS, REMOVALS, VIDEOS),
            lease_seconds=settings.lease_seconds,
        )
        self.outdated_pauses = OutdatedPauses(
            database,
            mode,
            daily_pins=settings.delivery_daily_pins,
            app_writes_per_day=settings.delivery_app_writes_per_day,
        )
        self.worker = AccountWorker(
            leases,
            Turn(turn_parts, settings.delivery_spacing_seconds),
            concurrency=settings.delivery_concurrency,
            interval_seconds=settings.delivery_interval_seconds,
            stop_seconds=settings.stop_timeout_seconds,
        )

    async def close(self) -> None:
        """Closes the connections. Call it after the worker and the tasks have stopped."""
        await self.media.close()
        await self._client.close()


def create_app(settings: DeliverySettings) -> FastAPI:
    """Builds the application. Its lifespan starts the worker, unless the mode is `off`."""
    service = Service("delivery", settings)
    gauges = PeriodicTask(
        "backlog gauges",
        BacklogGauges(service.database, settings.pinterest_mode).measure,
        interval_seconds=MEASURE_INTERVAL_SECONDS,
    )
    if not settings.is_pinterest_on:
        return service.create_app(summary=SUMMARY, dependencies=None, routers=[], tasks=[gauges])
    http = create_http_pool()
    access = InternalClient("access", http, settings.access_url, settings.internal_token)
    topic_log = TopicDeliveryLog(settings, service.topics, service.producer)
    parts = DeliveryParts(
        settings,
        service.database,
        CountedDeliveryLog(topic_log),
        AccessTokens(access, settings.pinterest_mode),
    )

    async def find_log_problem() -> str | None:
        return topic_log.problem()

    service.health.add("deliveries", find_log_problem)
    retention = DeliveryCleaner(
        service.database, VideoRepository(service.database, settings.pinterest_mode)
    )
    return service.create_app(
        summary=SUMMARY,
        dependencies=None,
        routers=[],
        components=[parts.worker],
        tasks=[
            gauges,
            PeriodicTask(
                "delivery log",
                topic_log.run_periodic_work,
                interval_seconds=CHECK_INTERVAL_SECONDS,
            ),
            PeriodicTask(
                "delivery worker",
                parts.worker.run_round,
                interval_seconds=settings.delivery_interval_seconds,
            ),
            PeriodicTask(
                "outdated pauses",
                parts.outdated_pauses.end,
                interval_seconds=PAUSE_CHECK_SECONDS,
            ),
            PeriodicTask(
                "delivery retention",
                retention.delete_old,
                interval_seconds=DELETE_INTERVAL_SECONDS,
            ),
            *parts.media.uploads,
        ],
        closing=[parts.close, topic_log.close, http.aclose],
    )
